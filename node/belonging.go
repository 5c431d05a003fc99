package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

const (
	// belongingFile is where a node keeps, outside of the catalog's own directory, which catalog names its hosted content.
	belongingFile = "hosted-catalog"
	// unknownCatalog stands for one that nobody remembers.
	unknownCatalog = "unknown"
	// belongingEvery is how often it is looked at.
	belongingEvery = 2 * time.Second
	// belongingSample is how many hosted blobs another catalog is asked about.
	belongingSample = 1000
)

// belonging remembers which catalog names the hosted content here. A catalog that does not name it, as one is that was
// founded after all catalogs were lost, must not have it collected; and while only this remembers the lost one, none is
// founded.
type belonging struct {
	path  string
	store *blobstore.Store
	log   *slog.Logger

	mu sync.Mutex
	id string // "" as long as nothing is hosted here
}

// openBelonging reads what was kept.
func openBelonging(dir string, store *blobstore.Store, log *slog.Logger) *belonging {
	b := &belonging{path: filepath.Join(dir, belongingFile), store: store, log: log}
	if raw, err := os.ReadFile(b.path); err == nil {
		b.id = strings.TrimSpace(string(raw))
	}
	if b.store.Usage().Hosted == 0 {
		b.id = ""
	} else if b.id == "" {
		b.id = unknownCatalog
	}
	return b
}

// catalog is the one that names what is hosted here, "" when nothing is.
func (b *belonging) catalog() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.id
}

// check is an error when what is hosted here belongs to another catalog than current.
func (b *belonging) check(current string) error {
	if id := b.catalog(); id != "" && id != current {
		return fmt.Errorf("what is hosted here belongs to catalog %.8s, and catalog %.8s does not name it", id, current)
	}
	return nil
}

// keep remembers current.
func (b *belonging) keep(current string) error {
	if err := renameio.WriteFile(b.path, []byte(current+"\n"), 0o644); err != nil {
		return fmt.Errorf("keep which catalog names what is hosted here: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.id = current
	return nil
}

// A namer is the catalog as far as it says what it names.
type namer interface {
	ID() string
	HoldsAll(ctx context.Context, digests []oci.Digest, stale bool) ([]bool, error)
	ByForce(ctx context.Context) (bool, error)
}

// run follows the catalog: one that names at least half of what is hosted here is the right one, and so is one that a
// person has founded by force.
func (b *belonging) run(ctx context.Context, c namer) error {
	tick := time.NewTicker(belongingEvery)
	defer tick.Stop()
	for {
		if err := b.look(ctx, c); err != nil && ctx.Err() == nil {
			b.log.Debug("not known whether the catalog is that of what is hosted here", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (b *belonging) look(ctx context.Context, c namer) error {
	current := c.ID()
	if current == "" || current == b.catalog() {
		return nil
	}
	ours, err := b.named(ctx, c)
	if err != nil {
		return err
	}
	if !ours {
		if forced, err := c.ByForce(ctx); err != nil || !forced {
			return errors.Join(errors.New("it names less than half of it"), err)
		}
	}
	return b.keep(current)
}

// named tells whether a catalog names at least half of what is hosted here.
func (b *belonging) named(ctx context.Context, c namer) (bool, error) {
	var sample []oci.Digest
	b.store.EachHosted(func(d oci.Digest, _ int64) bool {
		sample = append(sample, d)
		return len(sample) < belongingSample
	})
	known, err := c.HoldsAll(ctx, sample, false)
	n := 0
	for _, is := range known {
		if is {
			n++
		}
	}
	return 2*n >= len(sample), err
}
