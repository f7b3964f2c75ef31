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

// Cluster is three masters, the first three nodes, with a replica each.
type Cluster struct {
	Nodes []*Node
}

const slots = 16384

// StartCluster starts a cluster; it ends with the test. args are for every node.
func StartCluster(t testing.TB, args ...string) *Cluster {
	t.Helper()
	c, stop, err := RunCluster(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return c
}

// RunCluster is StartCluster without a test; dir is the servers' folder.
func RunCluster(dir string, args ...string) (c *Cluster, stop func(), err error) {
	c = &Cluster{}
	stop = func() { nodes(c.Nodes).kill() }
	defer func() {
		if err != nil {
			stop()
		}
	}()
	bus := map[*Node]string{}
	for n := range 6 {
		home := filepath.Join(dir, fmt.Sprintf("node%d", n))
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, nil, err
		}
		// The default bus port, ten thousand above, may be no port at all.
		busPort, err := freePort()
		if err != nil {
			return nil, nil, err
		}
		node, err := RunNode(home, append([]string{"--cluster-enabled", "yes", "--cluster-port", busPort, "--cluster-node-timeout", "1500",
			"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, args...)...)
		if err != nil {
			return nil, nil, err
		}
		c.Nodes, bus[node] = append(c.Nodes, node), busPort
	}
	if err := c.join(bus); err != nil {
		return nil, nil, fmt.Errorf("joining the cluster: %w", err)
	}
	return c, stop, c.Whole(20 * time.Second)
}

// join gives the masters their slots and every node the others.
func (c *Cluster) join(bus map[*Node]string) error {
	ctx := context.Background()
	for i, n := range c.Nodes {
		if err := n.do(ctx, "cluster", "set-config-epoch", i+1); err != nil {
			return err
		}
		if i < 3 {
			if err := n.do(ctx, "cluster", "addslotsrange", slots*i/3, slots*(i+1)/3-1); err != nil {
				return err
			}
		}
		host, port, _ := net.SplitHostPort(n.Addr)
		if err := c.Nodes[0].do(ctx, "cluster", "meet", host, port, bus[n]); err != nil {
			return err
		}
	}
	for i, n := range c.Nodes[3:] {
		id, err := c.Nodes[i].id(ctx)
		if err != nil {
			return err
		}
		// The replica must have heard of its master first.
		if err := until(20*time.Second, func(ctx context.Context) error { return n.do(ctx, "cluster", "replicate", id) }); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) id(ctx context.Context) (id string, err error) {
	err = n.ask(ctx, func(c *redis.Client) (err error) {
		id, err = c.Do(ctx, "cluster", "myid").Text()
		return err
	})
	return id, err
}

// Addrs are the addresses of all nodes.
func (c *Cluster) Addrs() (all []string) {
	for _, n := range c.Nodes {
		all = append(all, n.Addr)
	}
	return all
}

// Holder is the master that has a key now, nil while there is none.
func (c *Cluster) Holder(ctx context.Context, key string) *Node {
	for _, n := range c.Nodes {
		// Only the master of a key's slot answers without a redirection.
		if n.do(ctx, "exists", key) == nil {
			return n
		}
	}
	return nil
}

// Whole waits until every node sees all slots served, three masters and three
// replicas in step.
func (c *Cluster) Whole(within time.Duration) error {
	return until(within, func(ctx context.Context) error {
		replicas := 0
		for _, n := range c.Nodes {
			var state, list string
			err := n.ask(ctx, func(c *redis.Client) (err error) {
				if state, err = c.ClusterInfo(ctx).Result(); err == nil {
					list, err = c.ClusterNodes(ctx).Result()
				}
				return err
			})
			switch {
			case err != nil:
				return fmt.Errorf("asking %s: %w", n.Addr, err)
			case !strings.Contains(state, "cluster_state:ok") || strings.Contains(list, "fail") || strings.Count(list, "connected") < len(c.Nodes):
				return fmt.Errorf("%s does not see the whole cluster", n.Addr)
			case strings.Contains(n.info(ctx, "replication"), "master_link_status:up"):
				replicas++
			}
		}
		if replicas != 3 {
			return fmt.Errorf("%d replicas are in step, want 3", replicas)
		}
		return nil
	})
}
