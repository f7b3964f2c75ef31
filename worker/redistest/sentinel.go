package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sentinels is a master with replicas, watched by three sentinels, two of which
// agree on a failover after a second of silence.
type Sentinels struct {
	Name  string   // of the master, for the sentinels
	Addrs []string // of the sentinels
	Nodes []*Node  // the first one is the master at first

	sentinels nodes
}

// StartSentinels starts a master with two replicas; they end with the test. args
// are for all three.
func StartSentinels(t testing.TB, args ...string) *Sentinels {
	t.Helper()
	s, stop, err := RunSentinels(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

// RunSentinels is StartSentinels without a test; dir is the servers' folder.
func RunSentinels(dir string, args ...string) (s *Sentinels, stop func(), err error) {
	s = &Sentinels{Name: "m"}
	stop = func() { s.sentinels.kill(); nodes(s.Nodes).kill() }
	defer func() {
		if err != nil {
			stop()
		}
	}()
	if err := s.pair(dir, 3, args); err != nil {
		return nil, nil, err
	}
	for n := range 3 {
		if err := s.watch(filepath.Join(dir, fmt.Sprintf("sentinel%d", n))); err != nil {
			return nil, nil, err
		}
	}
	err = until(20*time.Second, func(ctx context.Context) error { return s.settled(ctx, 2) })
	return s, stop, err
}

// RunReplicas starts a master, the first node, with the given number of replicas
// and no sentinel: what dies stays dead.
func RunReplicas(dir string, replicas int, args ...string) (all []*Node, stop func(), err error) {
	s := &Sentinels{}
	if err := s.pair(dir, 1+replicas, args); err != nil {
		nodes(s.Nodes).kill()
		return nil, nil, err
	}
	return s.Nodes, nodes(s.Nodes).kill, nil
}

// pair starts the master and its replicas, in step.
func (s *Sentinels) pair(dir string, count int, args []string) error {
	// Replicas are served at once instead of after five seconds.
	args = append([]string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, args...)
	for n := range count {
		home := filepath.Join(dir, fmt.Sprintf("node%d", n))
		if err := os.MkdirAll(home, 0o700); err != nil {
			return err
		}
		node, err := RunNode(home, args...)
		if err != nil {
			return err
		}
		s.Nodes = append(s.Nodes, node)
		if n == 0 {
			continue
		}
		node.master = s.Nodes[0]
		if err := node.Follow(context.Background()); err != nil {
			return err
		}
	}
	for _, n := range s.Nodes[1:] {
		if err := n.Linked(20 * time.Second); err != nil {
			return err
		}
	}
	return nil
}

// Follow makes the node a replica of the master that it was started with.
func (n *Node) Follow(ctx context.Context) error {
	host, port, _ := net.SplitHostPort(n.master.Addr)
	if err := n.do(ctx, "replicaof", host, port); err != nil {
		return fmt.Errorf("making a replica: %w", err)
	}
	return nil
}

// Follows tells whether the node is a replica of this master now.
func (n *Node) Follows(ctx context.Context, master *Node) bool {
	_, port, _ := net.SplitHostPort(master.Addr)
	return n != master && strings.Contains(n.info(ctx, "replication"), "master_port:"+port+"\r\n")
}

// Linked waits until the node is a replica that has all of its master.
func (n *Node) Linked(within time.Duration) error {
	return until(within, func(ctx context.Context) error {
		if !strings.Contains(n.info(ctx, "replication"), "master_link_status:up") {
			return fmt.Errorf("the replica on %s has no link to its master", n.Addr)
		}
		return nil
	})
}

func (s *Sentinels) watch(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(s.Nodes[0].Addr)
	text := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 2\nsentinel down-after-milliseconds %[1]s 1000\n"+
		"sentinel failover-timeout %[1]s 5000\nsentinel parallel-syncs %[1]s 2\n", s.Name, host, port)
	file := filepath.Join(dir, "sentinel.conf") // the sentinel writes there what it learns
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	n, err := onFreePort(dir, func(port string) []string { return []string{file, "--sentinel", "--port", port} })
	if err != nil {
		return err
	}
	s.sentinels, s.Addrs = append(s.sentinels, n), append(s.Addrs, n.Addr)
	return nil
}

// settled is nil when every sentinel knows the others and the given number of
// replicas that are up.
func (s *Sentinels) settled(ctx context.Context, replicas int) error {
	for _, n := range s.sentinels {
		var v map[string]string
		if err := n.ask(ctx, func(c *redis.Client) error {
			m, err := c.Do(ctx, "sentinel", "master", s.Name).Result()
			v = words(m)
			return err
		}); err != nil {
			return err
		}
		if v["num-other-sentinels"] != "2" || v["num-slaves"] != fmt.Sprint(replicas) || v["flags"] != "master" {
			return fmt.Errorf("sentinel %s sees %s sentinels and %s replicas, flags %s", n.Addr, v["num-other-sentinels"], v["num-slaves"], v["flags"])
		}
	}
	return nil
}

// words is a map that Redis answered, in either protocol.
func words(v any) map[string]string {
	m := map[string]string{}
	switch v := v.(type) {
	case map[any]any:
		for k, value := range v {
			m[fmt.Sprint(k)] = fmt.Sprint(value)
		}
	case []any:
		for i := 0; i+1 < len(v); i += 2 {
			m[fmt.Sprint(v[i])] = fmt.Sprint(v[i+1])
		}
	}
	return m
}

// Master is the node that the sentinels name now, nil when they name none of ours.
func (s *Sentinels) Master(ctx context.Context) *Node {
	for _, watcher := range s.sentinels {
		var addr []string
		_ = watcher.ask(ctx, func(c *redis.Client) (err error) {
			addr, err = c.Do(ctx, "sentinel", "get-master-addr-by-name", s.Name).StringSlice()
			return err
		})
		if len(addr) != 2 {
			continue
		}
		for _, n := range s.Nodes {
			if n.Addr == net.JoinHostPort(addr[0], addr[1]) {
				return n
			}
		}
	}
	return nil
}

// Whole waits until all nodes are in step behind one master again.
func (s *Sentinels) Whole(within time.Duration) error {
	return until(within, func(ctx context.Context) error {
		if err := s.settled(ctx, len(s.Nodes)-1); err != nil {
			return err
		}
		m := s.Master(ctx)
		if m == nil {
			return fmt.Errorf("the sentinels name no master of ours")
		}
		if strings.Count(m.info(ctx, "replication"), "state=online") != len(s.Nodes)-1 {
			return fmt.Errorf("%s has not all replicas online", m.Addr)
		}
		return nil
	})
}
