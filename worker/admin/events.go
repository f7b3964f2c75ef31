package admin

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"time"
)

const (
	eventEvery = 2 * time.Second
	eventTime  = 10 * time.Second // for a browser to take one
	// eventsFor is how long one stream lasts: the browser comes back, and shows again that it may look.
	eventsFor = 5 * time.Minute
)

// events sends the overview's sections as they change.
func (p *pages) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // proxies must not wait for the end
	to := http.NewResponseController(w)
	shown := map[string]template.HTML{}
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	over := time.NewTimer(eventsFor)
	defer over.Stop()
	fmt.Fprint(w, "retry: 2000\n\n")
	for {
		changed := map[string]template.HTML{}
		for _, s := range p.board.sections(r.Context()) {
			if before, ok := shown[s.Name]; !ok || before != s.HTML { // an empty one, too: the page may be older
				shown[s.Name], changed[s.Name] = s.HTML, s.HTML
			}
		}
		raw, _ := json.Marshal(changed) // strings only; on one line
		_ = to.SetWriteDeadline(time.Now().Add(eventTime))
		if _, err := fmt.Fprintf(w, "event: sections\ndata: %s\n\n", raw); err != nil || to.Flush() != nil {
			return
		}
		if p.Service.Draining() {
			return // a stream would hold the end up; the browser comes back for as long as there is an end to be seen
		}
		select {
		case <-tick.C:
		case <-over.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}
