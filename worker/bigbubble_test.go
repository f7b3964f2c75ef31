package worker

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// inBigBubble is inBubble with a town for hundreds of step-ups: Redis lets nothing
// lapse by itself, which is dear there with many keys.
func inBigBubble(t *testing.T, change func(*Options, *Settings), test func(t *testing.T, w *town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		t.Cleanup(m.Close)
		o := redis.Options{Addr: "bubble", Dialer: func(context.Context, string, string) (net.Conn, error) { return buffered(m.Dial()) }}
		w := newTown(newRig(t, o, change))
		time.Sleep(6 * time.Second) // the lease is steady
		test(t, w)
		w.stop()
	})
}
