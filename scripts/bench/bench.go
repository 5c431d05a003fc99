package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/procfarm"
)

const (
	mib = 1 << 20
	gib = 1 << 30
	// firstNetwork is the third byte of the addresses of the first farm; others may run on the machine at lower ones.
	firstNetwork = 200
	lastNetwork  = 250
	// storeTime is how long a node may take to make a blob safe after a client has all of it.
	storeTime = time.Minute
)

// A bench is what the figures of one run share. It belongs to one goroutine.
type bench struct {
	options
	log     io.Writer
	dir     string
	p2pd    string // programs
	p2psim  string
	network int
	made    map[string]*images.Image
	folders int
	memory  reserve
}

// A figure is one measurement, of one or more lines.
type figure struct {
	name   string
	about  string
	shaped bool
	// seconds is what it takes at so many runs and pairs, roughly.
	seconds func(runs, pairs int) int
	measure func(context.Context, *bench, *sheet) error
}

// measure takes all chosen figures and reports them. A figure that cannot be measured does not keep the others from it.
func measure(ctx context.Context, o options, stdout, log io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	chosen := o.chosen()
	r := &results{SchemaVersion: schemaVersion, Date: time.Now().UTC().Truncate(time.Second), Version: version(ctx), Machine: thisMachine(), Runs: o.runs, Quick: o.quick}
	_, _ = fmt.Fprintf(log, "%s\n%d figures, about %v.\n", r.Machine, len(chosen), estimate(o, chosen))
	b, err := newBench(ctx, o, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	var errs []error
	for _, f := range chosen {
		s := b.take(ctx, f)
		r.Figures = append(r.Figures, s)
		if s.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", f.name, s.Error))
		}
		if ctx.Err() != nil {
			break
		}
	}
	errs = append(errs, printTable(stdout, r))
	if o.json != "" {
		errs = append(errs, r.write(o.json))
	}
	return errors.Join(errs...)
}

func estimate(o options, chosen []figure) time.Duration {
	seconds := 10
	for _, f := range chosen {
		seconds += f.seconds(o.runs, o.pairs())
	}
	if o.quick {
		seconds = seconds/2 + 1
	}
	return (time.Duration(seconds) * time.Second).Round(10 * time.Second)
}

func newBench(ctx context.Context, o options, log io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp(o.dir, "p2p-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, log: log, dir: dir, network: firstNetwork, made: map[string]*images.Image{}}
	if b.p2pd, err = procfarm.Build(ctx, dir); err == nil {
		b.p2psim = filepath.Join(dir, "p2psim")
		err = goBuild(ctx, b.p2psim, "github.com/pullonce/pullonce/cmd/p2psim")
	}
	if err == nil && o.profile != "" {
		b.p2pd, err = withSocket(dir, b.p2pd)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return b, nil
}

func goBuild(ctx context.Context, path, source string) error {
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, source).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", source, err, out)
	}
	return nil
}

func (b *bench) close() error {
	if b.keep {
		_, _ = fmt.Fprintln(b.log, "Data and logs are in", b.dir)
		return nil
	}
	return os.RemoveAll(b.dir)
}

// take measures one figure.
func (b *bench) take(ctx context.Context, f figure) *sheet {
	s := &sheet{Name: f.name, About: f.about, Lines: []*line{}}
	_, _ = fmt.Fprintf(b.log, "%s %s …\n", time.Now().Format("15:04:05"), f.name)
	start := time.Now()
	defer b.memory.close()
	if err := f.measure(ctx, b, s); err != nil {
		s.Error = err.Error()
		_, _ = fmt.Fprintf(b.log, "  %v\n", err)
	}
	s.Seconds = time.Since(start).Round(100 * time.Millisecond).Seconds()
	for _, l := range s.Lines {
		l.finish()
		_, _ = fmt.Fprintf(b.log, "  %-58s %10s %s %s\n", l.What, number(l.Median), l.Unit, l.Verdict)
	}
	return s
}

// folder makes a new folder; its maker removes it.
func (b *bench) folder(name string) (string, error) {
	b.folders++
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", name, b.folders))
	return dir, os.Mkdir(dir, 0o755)
}

// image makes an image with layers of these sizes, once for each seed and sizes.
func (b *bench) image(seed uint64, sizes ...int64) (*images.Image, error) {
	key := fmt.Sprint(seed, sizes)
	if made := b.made[key]; made != nil {
		return made, nil
	}
	dir := filepath.Join(b.dir, "images")
	made, err := images.Random(dir, seed, sizes...)
	if err == nil {
		b.made[key] = made
	}
	return made, err
}

// forget removes an image's files, for the large ones.
func (b *bench) forget(seed uint64, sizes ...int64) error {
	key := fmt.Sprint(seed, sizes)
	made := b.made[key]
	if made == nil {
		return nil
	}
	delete(b.made, key)
	var errs []error
	for _, blob := range made.Blobs() {
		errs = append(errs, os.Remove(blob.Path))
	}
	return errors.Join(errs...)
}

// Names that all images have at the stand-in.
const (
	repo = "library/bench"
	tag  = "1"
)

// hub starts a stand-in that has the images, under the tags 1, 2 and so on. It heeds distribution's idea of where a
// token service may be.
func (b *bench) hub(rate int64, have ...*images.Image) (*hub.Hub, error) {
	h, err := hub.Start(hub.Config{AuthListen: hub.Same, TokenTTL: time.Hour, Rate: rate})
	if err != nil {
		return nil, err
	}
	for i, image := range have {
		if err := image.AddTo(h, repo, fmt.Sprint(i+1)); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return h, nil
}

// A farm is p2pd processes with a folder of their own.
type farm struct {
	*procfarm.Farm
	bench *bench
	cfg   procfarm.Config
}

// farm starts nodes on addresses of their own, without data. extra is added to their configuration.
func (b *bench) farm(ctx context.Context, nodes int, upstream, extra string) (*farm, error) {
	dir, err := b.folder("farm")
	if err != nil {
		return nil, err
	}
	return b.farmIn(ctx, dir, nodes, upstream, extra)
}

func (b *bench) farmIn(ctx context.Context, dir string, nodes int, upstream, extra string) (*farm, error) {
	b.network++
	if b.network > lastNetwork {
		b.network = firstNetwork
	}
	// Without trust, as all figures of these farms were ever taken. What trust costs has figures of its own.
	cfg := procfarm.Config{
		Nodes: nodes, Program: b.p2pd, Dir: dir, Upstream: upstream, First: b.network, NoTrust: true,
		Extra: "cache: {max_size: 60%, min_free: 1%}\n" + extra,
	}
	f, err := procfarm.Start(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, b.drop(dir))
	}
	return &farm{f, b, cfg}, nil
}

// close stops the nodes and removes their data.
func (f *farm) close() error { return errors.Join(f.Farm.Close(), f.bench.drop(f.cfg.Dir)) }

func (b *bench) drop(dir string) error {
	if b.keep {
		return nil
	}
	return os.RemoveAll(dir)
}

func (f *farm) pids() []int {
	var pids []int
	for _, n := range f.Nodes {
		pids = append(pids, n.PID())
	}
	return pids
}

// stored waits until a node has made so many bytes of blobs safe.
func stored(ctx context.Context, n *procfarm.Node, bytes int64) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	for {
		s, err := n.Status(ctx)
		if err == nil && s.Store.Bytes >= bytes {
			return nil
		}
		select {
		case <-time.After(sampleEvery):
		case <-ctx.Done():
			return fmt.Errorf("node %s has stored %d bytes of %d: %w", n.Host, s.Store.Bytes, bytes, errors.Join(err, ctx.Err()))
		}
	}
}

// allStored is stored for all nodes of the farm.
func (f *farm) allStored(ctx context.Context, bytes int64) error {
	for _, n := range f.Nodes {
		if err := stored(ctx, n, bytes); err != nil {
			return err
		}
	}
	return nil
}

// gibs is bytes in GiB.
func gibs(bytes int64) float64 { return float64(bytes) / gib }

// perSecond is bytes a second in GB/s.
func perSecond(bytes int64, took time.Duration) float64 { return float64(bytes) / 1e9 / took.Seconds() }
