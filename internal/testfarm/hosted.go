package testfarm

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/node"
)

// Hosting changes a configuration so that a farm in a test finds its catalog and mends its copies soon. Leaders keep
// their office through the pauses of a busy machine.
func Hosting(_ int, c *node.Config) {
	c.Catalog.Poll = 200 * time.Millisecond
	c.Catalog.Heartbeat, c.Catalog.Lease = 1500*time.Millisecond, 1500*time.Millisecond
	c.Hosted.CompareEvery = 500 * time.Millisecond
	if Slowed {
		c.Catalog.Heartbeat, c.Catalog.Lease = 3*time.Second, 3*time.Second
		c.Catalog.Ask, c.Catalog.RPC, c.Catalog.Patience = 2*time.Second, 3*time.Second, 3*time.Second
	}
}

// StartHosting starts a farm with Hosting and waits until it has its catalog with all voters.
func StartHosting(t *testing.T, o Options) *Farm {
	t.Helper()
	change := o.Change
	o.Change = func(i int, c *node.Config) {
		Hosting(i, c)
		if change != nil {
			change(i, c)
		}
	}
	f := Start(t, o)
	f.SettleCatalog(f.Nodes...)
	return f
}

// voters is how many voters a farm of so many nodes has.
func voters(nodes int) int {
	switch {
	case nodes >= 5:
		return 5
	case nodes >= 3:
		return 3
	}
	return nodes
}

// SettleCatalog waits until the nodes, which are all that run, have one catalog, with as many voters as such a farm has
// and no others, and all know its leader, and the voters know all that was written.
func (f *Farm) SettleCatalog(nodes ...*Node) {
	f.t.Helper()
	last := ""
	deadline := time.Now().Add(60 * time.Second)
	for {
		ok := true
		ids, leaders := map[string]bool{}, map[string]bool{}
		for _, n := range nodes {
			s, err := n.Catalog()
			if err != nil {
				f.t.Fatalf("catalog of %s: %v", n.ID(), err)
			}
			ids[s.ID], leaders[s.Leader] = true, true
			alive := 0
			for _, v := range s.Voters {
				if v.Alive && v.Trails <= 0 { // a node that keeps no replica does not hear how far they are
					alive++
				}
			}
			here := s.Leader != "" && !s.Degraded && len(s.Voters) == voters(len(nodes)) && alive == len(s.Voters)
			if !here {
				ok, last = false, fmt.Sprintf("%s: %+v", n.ID(), s)
			}
		}
		if ok && len(ids) == 1 && len(leaders) == 1 {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d nodes have no settled catalog: ids %v, leaders %v, %s", len(nodes), ids, leaders, last)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Admin is the node's admin API as operators use it on its host.
func (n *Node) Admin() *adminapi.Client {
	n.farm.t.Helper()
	n.adminOnce.Do(func() {
		c, err := adminapi.NewClient("unix://" + n.Config.AdminSocket)
		if err != nil {
			n.farm.t.Fatal(err)
		}
		n.admin = c
	})
	return n.admin
}

// Catalog is the farm's catalog as the node sees it.
func (n *Node) Catalog() (adminapi.CatalogStatus, error) {
	n.farm.t.Helper()
	return n.Admin().Catalog(context.WithoutCancel(n.farm.t.Context()), 5*time.Second)
}

// Leader is the node that leads the catalog, as n sees it.
func (n *Node) Leader() *Node {
	n.farm.t.Helper()
	s, err := n.Catalog()
	if err != nil {
		n.farm.t.Fatal(err)
	}
	return n.farm.byID(s.Leader)
}

// Voters are the nodes that decide together, as n sees it, and the others.
func (n *Node) Voters() (voters, others []*Node) {
	n.farm.t.Helper()
	s, err := n.Catalog()
	if err != nil {
		n.farm.t.Fatal(err)
	}
	for _, v := range s.Voters {
		voters = append(voters, n.farm.byID(v.Node))
	}
	return voters, n.farm.Others(voters...)
}
