package copies

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

const (
	// What is taken from the queue at once, in blobs and in time: what is more endangered and comes later waits for that
	// long.
	mendBlobs   = 256
	mendSeconds = 2

	senders     = 4
	sendersRate = 4 << 20 // bytes a second that each should have: below, fewer send at once

	offerTimeout = 10 * time.Second
)

// mend sends what other nodes lack, the most endangered first and no faster than RepairRate, and unmarks what belongs
// elsewhere and is there.
func (k *Keeper) mend(ctx context.Context) error {
	pace := k.pacer()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.back.kick:
		}
		for ctx.Err() == nil {
			jobs := k.take()
			if len(jobs) == 0 {
				break
			}
			k.mendSome(ctx, jobs, pace)
		}
		for ctx.Err() == nil && k.unmarkSome(ctx) {
		}
	}
}

// pacer gives out the bytes that may be sent.
func (k *Keeper) pacer() func(context.Context, int) error {
	if k.cfg.RepairRate == 0 {
		return nil // no limit
	}
	return rate.NewLimiter(rate.Limit(k.cfg.RepairRate), k.cfg.Message).WaitN
}

// repairRate is how many bytes a second may be sent, at most.
func (k *Keeper) repairRate() int64 {
	if k.cfg.RepairRate == 0 {
		return 1 << 40 // no limit
	}
	return k.cfg.RepairRate
}

// take takes the first jobs of the queue.
func (k *Keeper) take() []*job {
	b := &k.back
	b.mu.Lock()
	defer b.mu.Unlock()
	if k.cfg.idle {
		return nil
	}
	n, bytes := 0, int64(0)
	for n < min(len(b.queue), mendBlobs) && (n == 0 || bytes+b.queue[n].size <= mendSeconds*k.repairRate()) {
		b.flying[b.queue[n].flight] = true
		bytes += b.queue[n].size
		n++
	}
	jobs := b.queue[:n:n]
	b.queue = b.queue[n:]
	return jobs
}

// A mending is the work on some jobs.
type mending struct {
	k    *Keeper
	jobs []*job
}

func (k *Keeper) mendSome(ctx context.Context, jobs []*job, pace func(context.Context, int) error) {
	k.back.repairing.Add(int64(len(jobs)))
	defer k.back.repairing.Add(-int64(len(jobs)))
	m := &mending{k: k, jobs: jobs}
	m.dropGarbage(ctx)
	m.offer(ctx)
	var g errgroup.Group
	g.SetLimit(int(min(senders, max(1, k.repairRate()/sendersRate))))
	for _, j := range m.jobs {
		g.Go(func() error {
			k.send(ctx, j, pace)
			return nil
		})
	}
	_ = g.Wait()
}

// dropGarbage takes out what no repository has and nobody has just pushed: it is not worth a copy. When the catalog
// does not say, all of it is sent.
func (m *mending) dropGarbage(ctx context.Context) {
	var old []oci.Digest
	for _, j := range m.jobs {
		if !m.k.young(j.digest) && !slices.Contains(old, j.digest) {
			old = append(old, j.digest)
		}
	}
	if len(old) == 0 {
		return
	}
	named, err := m.k.named(ctx, old)
	if err != nil {
		return
	}
	garbage := make(map[oci.Digest]bool)
	for i, d := range old {
		garbage[d] = !named[i]
	}
	m.jobs = slices.DeleteFunc(m.jobs, func(j *job) bool {
		if garbage[j.digest] {
			m.k.landed(j, garbageFound)
		}
		return garbage[j.digest]
	})
}

// offer asks the nodes for what they have after all, cached perhaps. They keep it as hosted from then on.
func (m *mending) offer(ctx context.Context) {
	per := make(map[string][]*job)
	for _, j := range m.jobs {
		per[j.to] = append(per[j.to], j)
	}
	done := make(map[*job]bool)
	for _, jobs := range per {
		digests := make([]oci.Digest, len(jobs))
		for i, j := range jobs {
			digests[i] = j.digest
		}
		have, err := m.k.offerTo(ctx, jobs[0].node, digests)
		if err != nil {
			m.k.rest(jobs[0].to)
		}
		for _, j := range jobs {
			switch {
			case err != nil:
				done[j] = true
				m.k.landed(j, failed)
			case have[j.digest]:
				done[j] = true
				m.k.landed(j, arrived)
			}
		}
		m.k.sendNotes(ctx, jobs[0].node, digests, have)
	}
	m.jobs = slices.DeleteFunc(m.jobs, func(j *job) bool { return done[j] })
}

// offerTo tells which of some blobs a node has and keeps as hosted now.
func (k *Keeper) offerTo(ctx context.Context, to Node, digests []oci.Digest) (map[oci.Digest]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	c, err := k.client(to)
	if err != nil {
		return nil, err
	}
	q := &copiespb.OfferRequest{Digests: make([]string, len(digests))}
	for i, d := range digests {
		q.Digests[i] = d.String()
	}
	r, err := c.Offer(ctx, q)
	if err != nil {
		return nil, err
	}
	have := make(map[oci.Digest]bool, len(r.GetHave()))
	for _, text := range r.GetHave() {
		if d, err := oci.ParseDigest(text); err == nil {
			have[d] = true
		}
	}
	return have, nil
}

// sendNotes sends the notes of the copies here that the node has, too. One that gets lost is made up for by the node
// itself, from the catalog.
func (k *Keeper) sendNotes(ctx context.Context, to Node, digests []oci.Digest, have map[oci.Digest]bool) {
	q, size := &copiespb.NoteRequest{}, 0
	send := func() {
		if len(q.GetItems()) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, offerTimeout)
		defer cancel()
		if c, err := k.client(to); err == nil {
			_, _ = c.Note(ctx, q)
		}
		q, size = &copiespb.NoteRequest{}, 0
	}
	for _, d := range digests {
		note := k.parts.Store.Note(d)
		if !have[d] || len(note) == 0 {
			continue
		}
		if size += len(note); size > notesBatch {
			send()
			size = len(note)
		}
		q.Items = append(q.Items, &copiespb.NoteRequest_Item{Digest: d.String(), Note: note})
	}
	send()
}

// send sends one blob, unless the ring has changed, or a push here sees to it.
func (k *Keeper) send(ctx context.Context, j *job, pace func(context.Context, int) error) {
	if ring, _ := k.parts.Farm.Ring(); ring != j.ring || ctx.Err() != nil || k.puts.has(j.digest) || k.rests(j.to) {
		k.landed(j, failed)
		return
	}
	status, err := k.push(ctx, j.node, j.digest, true, pace)
	switch {
	case err == nil && status == copiespb.StoreReply_STATUS_STORED:
		k.back.repairedBytes.Add(j.size)
		k.landed(j, arrived)
	case err == nil && status == copiespb.StoreReply_STATUS_HAD:
		k.landed(j, arrived)
	default:
		if err == nil && status == copiespb.StoreReply_STATUS_NO_SPACE {
			k.rest(j.to)
		}
		if ctx.Err() == nil && (err != nil || status != copiespb.StoreReply_STATUS_BUSY) {
			k.log.Warn("copy not sent", slog.String("digest", j.digest.String()), slog.String("peer", j.to),
				slog.String("status", status.String()), slog.Any("error", err))
		}
		k.landed(j, failed)
	}
}

// rest has a node be sent nothing for a while: it has no space, or does not answer.
func (k *Keeper) rest(id string) {
	k.back.mu.Lock()
	defer k.back.mu.Unlock()
	if v := k.back.peers[id]; v != nil {
		v.rest = time.Now().Add(k.cfg.CompareEvery)
	}
}

func (k *Keeper) rests(id string) bool {
	k.back.mu.Lock()
	defer k.back.mu.Unlock()
	v := k.back.peers[id]
	return v != nil && time.Now().Before(v.rest)
}

// has tells whether d is pushed now.
func (p *puts) has(d oci.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flying[d] != nil
}

// What comes of a job.
type landing int

const (
	arrived landing = iota
	failed
	garbageFound
)

// landed notes what came of a job.
func (k *Keeper) landed(j *job, how landing) {
	b := &k.back
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.flying, j.flight)
	b.dirty = true
	if how == garbageFound {
		b.garbage[j.digest] = time.Now().Add(listedFor * k.cfg.CompareEvery)
		return
	}
	if how == arrived {
		b.repaired.Add(1)
	}
	v := b.peers[j.to]
	if v == nil || v.found == nil || v.found.differ[j.part] == nil {
		return
	}
	lacks := v.found.differ[j.part].lacks
	switch l := lacks[j.digest]; {
	case l == nil:
	case how == arrived:
		delete(lacks, j.digest)
	default:
		l.next = time.Now().Add(k.cfg.CompareEvery)
	}
}
