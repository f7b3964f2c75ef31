package api

import (
	"log/slog"
	"net/http"
	"time"
)

// NewHTTPServer makes the server of any of our listeners, with limits that a slow or greedy client runs into. Its Addr
// and TLSConfig are the caller's to set. Routes that hold a request move the write deadline themselves.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true, // OPTIONS * is a stranger's request like any other
		ReadHeaderTimeout:            5 * time.Second,
		ReadTimeout:                  10 * time.Second,
		WriteTimeout:                 answerTime,
		IdleTimeout:                  120 * time.Second,
		MaxHeaderBytes:               16 << 10,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
