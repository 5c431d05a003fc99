package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// A catalogReport says who keeps the farm's catalog.
type catalogReport struct {
	Leader  string  `json:"leader"` // host
	Voters  int     `json:"voters"`
	Seconds float64 `json:"seconds"` // that it took until all hosts knew
}

// led waits until all nodes know one leader of the catalog, which is one of those that run, and so many of them are
// voters.
func (f *farm) led(ctx context.Context, voters int) (catalogReport, error) {
	start := time.Now()
	var c catalogReport
	err := f.await(ctx, "the catalog to have a leader", func(ctx context.Context) (err error) {
		c, err = f.catalog(ctx)
		if err == nil && c.Voters < voters {
			err = fmt.Errorf("%d voters of %d", c.Voters, voters)
		}
		return err
	})
	c.Seconds = time.Since(start).Seconds()
	return c, err
}

// catalog is what all nodes say of the catalog; an error says who knows none, or another leader.
func (f *farm) catalog(ctx context.Context) (catalogReport, error) {
	var c catalogReport
	leader, names := "", make(map[string]string)
	for _, h := range f.hosts {
		s, err := h.status(ctx)
		if err != nil {
			return c, err
		}
		switch {
		case s.Catalog == nil:
			return c, fmt.Errorf("the node of %s keeps to no catalog", h.name)
		case s.Catalog.Leader == "":
			return c, fmt.Errorf("the node of %s knows no leader: %s", h.name, s.Catalog.State)
		case leader != "" && s.Catalog.Leader != leader:
			return c, errors.New("the nodes know different leaders")
		case s.Catalog.State == adminapi.CatalogVoter:
			c.Voters++
		case s.Catalog.State != adminapi.CatalogNonVoter:
			return c, fmt.Errorf("the node of %s: %s", h.name, s.Catalog.State)
		}
		leader, names[s.ID] = s.Catalog.Leader, h.name
	}
	if c.Leader = names[leader]; c.Leader == "" {
		return c, errors.New("the leader is lost")
	}
	return c, nil
}
