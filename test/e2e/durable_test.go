package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

const (
	// durableCopies is how many copies the farm promises; so many less one of its nodes may be lost at once.
	durableCopies = 3
	// durableFor is how long nodes are killed beside pushes.
	durableFor = 3 * time.Minute
	// allAtOnce is how often all of them are.
	allAtOnce = 50 * time.Second
)

// Five nodes are killed at random, never more at once than copies are lost without harm, and now and then all at once.
// What a push was answered 201 for is there afterwards: every blob, manifest and tag, right, on as many nodes as was
// promised, and dockerd pulls it.
func TestWhatWasAcknowledgedSurvivesKills(t *testing.T) {
	t.Parallel()
	w := newWorldFor(t, durableFor+8*time.Minute, "dockerd", "docker")
	hosts := w.hosts(t, "h", 5)
	k := &killing{world: w, hosts: hosts, nodes: w.nodes(t, hosts, durableConfig)}
	hasCatalog(t, k.nodes...)

	ctx, cancel := context.WithTimeout(w.ctx, durableFor)
	defer cancel()
	var pushers errgroup.Group
	var done acknowledged
	for i := range 4 {
		pushers.Go(func() error { return k.pushOn(ctx, i, &done) })
	}
	if err := k.killOn(ctx); err != nil {
		t.Fatal(err)
	}
	if err := pushers.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pushes acknowledged, %d refused or cut off, %d kills, %d of all nodes at once",
		len(done.pushes), done.failed, k.kills, k.blackouts)
	if len(done.pushes) < 20 || k.kills < 5 || k.blackouts < 2 {
		t.Error("too little was going on to prove anything")
	}

	if err := netfarm.WaitFarm(w.ctx, k.nodes...); err != nil {
		t.Fatal(err)
	}
	hasCatalog(t, k.nodes...)
	k.mended(t)
	for _, p := range done.pushes {
		k.holds(t, p)
	}
	w.pullsEach(t, hosts[0], done.pushes)
}

const durableConfig = "hosted: {compare_interval: 2s}\n"

// A killing is a farm whose nodes are killed and started again.
type killing struct {
	*world
	hosts []*netfarm.Host
	nodes []*netfarm.Node

	kills, blackouts int
}

// A pushed is an image that a node has answered 201 for.
type pushed struct {
	name  string // below farm.internal
	image *images.Image
}

type acknowledged struct {
	mu     sync.Mutex
	pushes []pushed
	failed int
}

// pushOn pushes images to nodes at random until ctx ends.
func (k *killing) pushOn(ctx context.Context, pusher int, done *acknowledged) error {
	random := rand.New(rand.NewPCG(uint64(pusher), 5))
	for n := 0; ctx.Err() == nil; n++ {
		sizes := []int64{2048 + random.Int64N(3*mib), 2048 + random.Int64N(64<<10)}
		image, err := images.Build(k.ctx, filepath.Join(k.farm.Dir(), "images"), images.Spec{
			Docker: n%2 == 0, Packing: images.Gzip, Layers: images.RandomLayers(uint64(1000*pusher+n+7000), sizes...),
		})
		if err != nil {
			return err
		}
		p := pushed{fmt.Sprintf("team%d/app%d:v%d", pusher, n%7, n), image}
		err = k.push(ctx, k.hosts[random.IntN(len(k.hosts))], p)
		done.mu.Lock()
		if err == nil {
			done.pushes = append(done.pushes, p)
		} else {
			done.failed++
		}
		done.mu.Unlock()
		select {
		case <-time.After(time.Duration(random.IntN(int(5 * time.Second)))):
		case <-ctx.Done():
		}
	}
	return nil
}

// push is one push, without a second try: what it does not say 201 to does not count.
func (k *killing) push(ctx context.Context, h *netfarm.Host, p pushed) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	repo, tag, _ := strings.Cut(p.name, ":")
	base := "http://127.0.0.1:5000/v2/farm.internal/" + repo
	for _, b := range p.image.Blobs() {
		started, err := k.do(ctx, h, http.MethodPost, base+"/blobs/uploads/", "", nil, http.StatusAccepted)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(b.Path)
		if err != nil {
			return err
		}
		at := "http://127.0.0.1:5000" + started.Get("Location") + "?digest=" + b.Digest.String()
		if _, err := k.do(ctx, h, http.MethodPut, at, "application/octet-stream", data, http.StatusCreated); err != nil {
			return err
		}
	}
	_, err := k.do(ctx, h, http.MethodPut, base+"/manifests/"+tag, p.image.MediaType, p.image.Raw, http.StatusCreated)
	return err
}

func (k *killing) do(ctx context.Context, h *netfarm.Host, method, url, mediaType string, body []byte, want int) (http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		r.Header.Set("Content-Type", mediaType)
	}
	answer, err := h.Client().Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != want {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
		return nil, fmt.Errorf("%s %s: %s: %s", method, url, answer.Status, text)
	}
	return answer.Header, nil
}

// killOn kills nodes until ctx ends; then all run again.
func (k *killing) killOn(ctx context.Context) error {
	random := rand.New(rand.NewPCG(99, 99))
	next := time.Now().Add(allAtOnce)
	for ctx.Err() == nil {
		victims := random.Perm(len(k.nodes))[:1+random.IntN(durableCopies-1)]
		if time.Now().After(next) {
			victims = random.Perm(len(k.nodes))
			next = time.Now().Add(allAtOnce)
			k.blackouts++
		}
		if err := k.kill(victims, time.Duration(random.IntN(int(4*time.Second)))); err != nil {
			return err
		}
		select {
		case <-time.After(time.Duration(random.IntN(int(6 * time.Second)))):
		case <-ctx.Done():
		}
	}
	return nil
}

// kill kills some nodes at once and starts them again after a while.
func (k *killing) kill(victims []int, down time.Duration) error {
	var group sync.WaitGroup
	for _, i := range victims {
		k.kills++
		group.Go(k.nodes[i].Kill)
	}
	group.Wait()
	time.Sleep(down)
	var starts errgroup.Group
	for _, i := range victims {
		starts.Go(func() (err error) {
			k.nodes[i], err = k.hosts[i].StartNode(k.ctx, k.programs.p2pd, k.hosts[i].NodeConfig(k.hosts...)+durableConfig)
			return err
		})
	}
	return starts.Wait()
}

// mended waits until no node knows of a blob that has too few copies, twice in a row.
func (k *killing) mended(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(k.ctx, 2*time.Minute)
	defer cancel()
	calm := 0
	err := netfarm.Poll(ctx, func(ctx context.Context) error {
		status, err := k.nodes[0].Status(ctx)
		if err != nil {
			return err
		}
		for _, m := range status.Members {
			if m.Node == nil || m.Node.Hosted == nil || m.Node.Hosted.BelowCopies > 0 || m.Node.Hosted.Repairing > 0 {
				calm = 0
				return errors.New("copies are being made")
			}
		}
		if calm++; calm < 20 {
			return errors.New("not calm for long enough")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// holds checks one acknowledged push: by its tag on a node, and each of its blobs and manifests on the nodes' disks.
func (k *killing) holds(t *testing.T, p pushed) {
	t.Helper()
	repo, tag, _ := strings.Cut(p.name, ":")
	h := k.hosts[rand.IntN(len(k.hosts))]
	header, err := k.do(k.ctx, h, http.MethodHead, "http://127.0.0.1:5000/v2/farm.internal/"+repo+"/manifests/"+tag, "", nil, http.StatusOK)
	if err != nil {
		t.Errorf("acknowledged tag: %v", err)
	} else if got := header.Get("Docker-Content-Digest"); got != p.image.Digest.String() {
		t.Errorf("tag %s is %s; want %s", p.name, got, p.image.Digest)
	}
	digests := []string{p.image.Digest.String()}
	for _, b := range p.image.Blobs() {
		digests = append(digests, b.Digest.String())
	}
	for _, d := range digests {
		if n := k.copies(t, d); n < durableCopies {
			t.Errorf("%s of %s has %d right copies; want %d", d, p.name, n, durableCopies)
		}
	}
}

// copies counts the nodes that have a blob on disk, right.
func (k *killing) copies(t *testing.T, digest string) int {
	t.Helper()
	algorithm, name, _ := strings.Cut(digest, ":")
	n := 0
	for _, h := range k.hosts {
		data, err := os.ReadFile(filepath.Join(h.Dir(), "p2pd", "blobs", algorithm, name[:2], name))
		if err != nil {
			continue
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != name {
			t.Errorf("%s on %s has other bytes", digest, h.Name())
			continue
		}
		n++
	}
	return n
}

// pullsEach has a dockerd pull every image that was acknowledged.
func (w *world) pullsEach(t *testing.T, h *netfarm.Host, pushes []pushed) {
	t.Helper()
	docker, err := h.StartDockerd(w.ctx, dockerMirror)
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	group.SetLimit(4)
	for _, p := range pushes {
		group.Go(func() error {
			name := atNode + "/" + p.name
			ctx, cancel := context.WithTimeout(w.ctx, pullTime)
			defer cancel()
			if err := docker.Pull(ctx, name); err != nil {
				t.Errorf("dockerd pulls %s: %v", p.name, err)
				return nil
			}
			if err := wants(p.image.Config.Digest.Hex())(docker.ImageID(ctx, name)); err != nil {
				t.Errorf("%s: %v", p.name, err)
			}
			return nil
		})
	}
	_ = group.Wait()
}
