package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// redisServer is a redis-server that acknowledges nothing before it is on disk.
type redisServer struct {
	*process
	dir  string // its files
	log  string
	port int
}

func startRedis(ctx context.Context, dir string, port int) (*redisServer, error) {
	r := &redisServer{dir: dir, log: filepath.Join(filepath.Dir(dir), "redis.log"), port: port}
	return r, r.start(ctx)
}

// start starts it on the files that are there.
func (r *redisServer) start(ctx context.Context) error {
	var err error
	r.process, err = launch(r.log, nil, "redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(r.port), "--dir", r.dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction")
	if err != nil {
		return fmt.Errorf("%w (is it installed? apt-get install redis-server)", err)
	}
	err = until(ctx, "redis-server answers", 20*time.Second, func() bool { return !r.alive() || r.ping() })
	if err == nil && !r.alive() {
		err = fmt.Errorf("redis-server ended at once; see %s", r.log)
	}
	return err
}

// ping is false while the files are being loaded, too.
func (r *redisServer) ping() bool {
	c, err := net.DialTimeout("tcp", r.addr(), time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return false
	}
	answer := make([]byte, 5)
	_, err = io.ReadFull(c, answer)
	return err == nil && string(answer) == "+PONG"
}

func (r *redisServer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }
func (r *redisServer) url() string  { return "redis://" + r.addr() + "/0" }
