package blobstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// askBatch is how many blobs one question to the owners is about.
const askBatch = 64

// reliefBytes is how much goes when the disk is full before its time: enough for some pieces of some blobs.
const reliefBytes = 64 << 20

// A candidate is something that eviction may let go.
type candidate struct {
	digest  oci.Digest
	size    int64
	lastUse int64
	partial bool
}

// candidates are all that may go, the least valuable first. This is the one place that decides what a blob is worth:
// partial blobs that nobody has open go before whole ones used at the same time, else what was not used for longest.
// Hosted blobs are not among them.
func (s *Store) candidates() []candidate {
	s.mu.RLock()
	all := make([]candidate, 0, len(s.entries)+len(s.idle))
	for d, e := range s.entries {
		if m := e.snapshot(); !m.Hosted {
			all = append(all, candidate{digest: d, size: m.Size, lastUse: e.lastUse.Load()})
		}
	}
	for d, idle := range s.idle {
		if idle.meta.Hosted {
			continue
		}
		all = append(all, candidate{digest: d, size: idle.bytes, lastUse: idle.lastUse.Unix(), partial: true})
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b candidate) int {
		if c := cmp.Compare(a.lastUse, b.lastUse); c != 0 {
			return c
		}
		if a.partial != b.partial && a.partial {
			return -1
		}
		return cmp.Compare(b.size, a.size)
	})
	return all
}

// taken is how many bytes cached blobs take, counted whole that are still arriving. What is hosted has a budget of its own.
func (s *Store) taken() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.bytes - s.apart
	for _, p := range s.partials {
		if p.file != nil {
			n += p.list.Size()
		}
	}
	for _, idle := range s.idle {
		n += idle.bytes
	}
	return n
}

// takenApart is how many bytes hosted blobs take, and what uploads have or may take.
func (s *Store) takenApart() int64 {
	_, _, n := s.uploads.total()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return n + s.apart
}

// promised is how many bytes open partial blobs and uploads will still take from the file system.
func (s *Store) promised() int64 {
	s.mu.RLock()
	open := make([]*Partial, 0, len(s.partials))
	for _, p := range s.partials {
		if p.file != nil {
			open = append(open, p)
		}
	}
	s.mu.RUnlock()
	_, written, room := s.uploads.total()
	n := room - written
	for _, p := range open {
		if inMemory, _ := p.InMemory(); !inMemory {
			n += p.list.Size() - p.diskBytes()
		}
	}
	return n
}

// excess is how many bytes must go so that all, reserved ones counted, is under share of the budget, and that the free
// space which is left to others is there, with as much of a margin as share leaves.
func (s *Store) excess(share float64) int64 {
	over := int64(0)
	if s.cfg.MaxBytes > 0 {
		over = s.taken() + s.reserved.Load() - int64(share*float64(s.cfg.MaxBytes))
	}
	return max(0, over, s.shortage(share))
}

// shortage is how many bytes the file system lacks of the free space that cached blobs leave to others.
func (s *Store) shortage(share float64) int64 {
	return s.lacks(int64((2 - share) * float64(s.cfg.MinFreeBytes)))
}

// lacks is how many bytes the file system lacks of so much free space, with all that is promised taken.
func (s *Store) lacks(leave int64) int64 {
	if leave <= 0 {
		return 0
	}
	free, err := s.disk.free(s.cfg.Dir)
	if err != nil {
		return 0
	}
	return max(0, leave+s.promised()+s.reserved.Load()+s.reservedApart.Load()-free)
}

// makeRoom lets the least valuable go until need more bytes of cached blobs fit into the budget, and holds that room until
// release is called: by then the bytes must be known to the store. Run keeps a margin free by asking the owners first;
// when that was not enough nobody is asked, since a pull waits. What is there of blob d stays. The caller holds no
// digest's lock.
func (s *Store) makeRoom(need int64, d oci.Digest) (release func(), err error) {
	if s.cfg.MaxBytes > 0 && need > s.cfg.MaxBytes {
		return func() {}, fmt.Errorf("blob of %d bytes does not fit into the cache of %d", need, s.cfg.MaxBytes)
	}
	return s.claim(&s.reserved, need, d, func() int64 { return s.excess(1) })
}

// makeRoomApart is makeRoom for what is hosted: cached blobs go for it when the disk is full, and hosted ones never.
func (s *Store) makeRoomApart(need int64) (release func(), err error) {
	if most := s.cfg.MaxHosted; most > 0 && s.takenApart()+s.reservedApart.Load()+need > most {
		return func() {}, fmt.Errorf("%d bytes more do not fit into the %d for what is hosted", need, most)
	}
	return s.claim(&s.reservedApart, need, oci.Digest{}, func() int64 { return s.lacks(s.cfg.HostedFree) })
}

// claim holds need bytes in a counter once what is over is gone.
func (s *Store) claim(counter *atomic.Int64, need int64, d oci.Digest, excess func() int64) (release func(), err error) {
	counter.Add(need)
	release = func() { counter.Add(-need) }
	over := excess()
	if over == 0 {
		return release, nil
	}
	s.wakeRun()
	all := s.candidates()
	if left := over - sizeOfAll(all); left > 0 { // hosted blobs and uploads fill it: do not lose the rest for nothing
		release()
		return func() {}, fmt.Errorf("%d bytes too few in the cache for a blob of %d", left, need)
	}
	for _, c := range all {
		if c.digest == d {
			continue
		}
		s.drop(c)
		if over -= c.size; over <= 0 {
			break
		}
	}
	if over = excess(); over > 0 {
		release()
		return func() {}, fmt.Errorf("%d bytes too few in the cache for a blob of %d", over, need)
	}
	return release, nil
}

func sizeOfAll(all []candidate) (n int64) {
	for _, c := range all {
		n += c.size
	}
	return n
}

// relieve is for a disk that says that it is full although the budget is not: the least valuable go at once. It tells
// whether anything went, so that trying again makes sense.
func (s *Store) relieve(cause error, d oci.Digest) bool {
	if !errors.Is(cause, syscall.ENOSPC) && !errors.Is(cause, syscall.EDQUOT) {
		return false
	}
	left := int64(reliefBytes)
	for _, c := range s.candidates() {
		if c.digest == d {
			continue
		}
		s.drop(c)
		if left -= c.size; left <= 0 {
			break
		}
	}
	return left < reliefBytes
}

// evict brings the store from above the high mark to the low mark, asking first: what others hold goes before what may
// be the farm's last copy. Only above the hard limit what no one allowed goes too.
func (s *Store) evict(ctx context.Context) {
	if s.excess(s.cfg.HighMark) == 0 {
		return
	}
	over := s.excess(s.cfg.LowMark)
	var refused []candidate
	for batch := range slices.Chunk(s.candidates(), askBatch) {
		allowed := s.mayDrop(ctx, batch)
		for _, c := range batch {
			switch {
			case over <= 0 || ctx.Err() != nil:
				return
			case c.partial || allowed[c.digest]:
				s.drop(c)
				over -= c.size
			default:
				refused = append(refused, c)
			}
		}
	}
	hard := s.excess(1)
	for _, c := range refused {
		if hard <= 0 {
			return
		}
		s.drop(c)
		hard -= c.size
	}
}

func (s *Store) mayDrop(ctx context.Context, batch []candidate) map[oci.Digest]bool {
	ask := make([]oci.Digest, 0, len(batch))
	for _, c := range batch {
		if !c.partial {
			ask = append(ask, c.digest)
		}
	}
	if s.cfg.MayDrop != nil && len(ask) > 0 {
		ask = s.cfg.MayDrop(ctx, ask)
	}
	allowed := make(map[oci.Digest]bool, len(ask))
	for _, d := range ask {
		allowed[d] = true
	}
	return allowed
}

// drop removes a candidate. Open readers go on: the kernel keeps the bytes for them.
func (s *Store) drop(c candidate) {
	err := s.dropFiles(c)
	if errors.Is(err, errHosted) {
		return
	}
	if err != nil {
		s.logError("evict blob", c.digest, err)
		return
	}
	if s.cfg.OnDrop != nil && !c.partial {
		s.cfg.OnDrop(c.digest)
	}
	s.count.evicted.Add(1)
	s.count.evictedBytes.Add(c.size)
	s.log.Debug("blob evicted", slog.String("digest", c.digest.String()), slog.Int64("size", c.size))
}

// errHosted says that a candidate has become hosted since it was chosen: somebody was told that it is kept.
var errHosted = errors.New("blob is hosted")

func (s *Store) dropFiles(c candidate) error {
	defer s.lockDigest(c.digest)()
	if m, ok := s.metaOf(c.digest); ok && m.Hosted {
		return errHosted
	}
	if c.partial {
		return s.removeIdle(c.digest)
	}
	return s.removeWhole(c.digest)
}

// expirePartials lets go of partial blobs that nobody used for long.
func (s *Store) expirePartials() {
	s.mu.RLock()
	var old []candidate
	for d, idle := range s.idle {
		if time.Since(idle.lastUse) > s.cfg.PartialTTL && !idle.meta.Hosted {
			old = append(old, candidate{digest: d, size: idle.bytes, partial: true})
		}
	}
	s.mu.RUnlock()
	for _, c := range old {
		s.drop(c)
	}
}
