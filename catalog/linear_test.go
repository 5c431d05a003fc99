package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/pullonce/pullonce/oci"
)

// register is what the checker knows of one tag, pin or setting: a value that is written, swapped, taken away and read.
type registerInput struct {
	kind  string // "put", "delete", "swap" or "read"
	key   string
	value string
	was   string // of a swap: the value at the index that it names; no two swaps set the same
}

type registerOutput struct {
	value   string // of a read; "" when there is none
	absent  bool   // a delete found nothing, a swap another index
	unknown bool   // it may have been done, or may yet be
}

var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			key := o.Input.(registerInput).key
			byKey[key] = append(byKey[key], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out := input.(registerInput), output.(registerOutput)
		switch in.kind {
		case "put":
			return true, in.value
		case "delete":
			return out.unknown || out.absent == (state == ""), ""
		case "swap":
			if state != in.was {
				return out.unknown || out.absent, state
			}
			return out.unknown || !out.absent, in.value
		}
		return out.value == state, state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v -> %v", input, output) },
}

// A history is what clients saw. Its clock counts the calls and the answers of the whole run: no two are at once.
type history struct {
	clock atomic.Int64
	mu    sync.Mutex
	done  []porcupine.Operation
}

// run carries out one operation and notes it. What was certainly not done is not noted; what may have been done at any
// time afterwards never returns.
func (h *history) run(client int, in registerInput, do func() (registerOutput, error)) {
	call := h.clock.Add(1)
	out, err := do()
	at := h.clock.Add(1)
	switch {
	case errors.Is(err, ErrUncertain) && in.kind != "read":
		out.unknown, at = true, 1<<62
	case err != nil:
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = append(h.done, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: at})
}

// A tag's possible digests.
func manifestOf(i int) oci.Digest {
	return oci.FromBytes(oci.SHA256, fmt.Appendf(nil, "manifest %d", i))
}

const manifests = 40

// client works on tags, pins and settings through one node, whatever becomes of it.
func (h *history) client(ctx context.Context, number int, f *fakeNode, random *rand.Rand, stale bool) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond)
		running := f.net.running(f.id)
		if running == nil {
			continue
		}
		c := running.catalog
		key := fmt.Sprintf("%s%d", []string{"tag", "tag", "pin", "set"}[random.IntN(4)], random.IntN(2))
		in := registerInput{kind: []string{"put", "put", "delete", "read", "read", "read", "read"}[random.IntN(7)], key: key}
		if key[:3] == "set" && in.kind != "read" {
			h.swap(number, c, in, random)
			continue
		}
		if in.kind == "put" {
			in.value = manifestOf(random.IntN(manifests)).String()
		}
		h.run(number, in, func() (registerOutput, error) {
			if in.kind == "read" {
				return readRegister(c, key, stale, number%2 == 0)
			}
			return writeRegister(c, in)
		})
	}
}

// swap looks at a setting and sets it to what nobody ever set, or takes it away, unless it changed meanwhile.
func (h *history) swap(number int, c *Catalog, in registerInput, random *rand.Rand) {
	value, index, err := c.SettingAt(context.Background(), in.key, random.IntN(2) == 0)
	if err != nil {
		return
	}
	if in.was = string(value); in.kind == "put" {
		in.value = fmt.Sprint(number, " ", random.Uint64())
	}
	in.kind = "swap"
	time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
	h.run(number, in, func() (registerOutput, error) {
		result, err := c.Apply(context.Background(), Command{Do: SwapSetting{in.key, []byte(in.value), index}})
		if errors.Is(result.Err, ErrChanged) {
			return registerOutput{absent: true}, err
		}
		return registerOutput{}, errors.Join(err, result.Err)
	})
}

// readRegister reads from the node's own replica, or asks the leader.
func readRegister(c *Catalog, key string, stale, own bool) (registerOutput, error) {
	view, err := c.Read(context.Background(), stale)
	pin, set := key[:3] == "pin", key[:3] == "set"
	switch {
	case set && (!own || errors.Is(err, ErrNoReplica)):
		value, _, err := c.SettingAt(context.Background(), key, stale)
		return registerOutput{value: string(value)}, err
	case pin && (!own || errors.Is(err, ErrNoReplica)):
		p, _, err := c.Pin(context.Background(), key, stale)
		return registerOutput{value: p.Digest.String()}, err
	case !own || errors.Is(err, ErrNoReplica):
		tag, _, err := c.Tag(context.Background(), "r", key, stale)
		return registerOutput{value: tag.Digest.String()}, err
	case err != nil:
		return registerOutput{}, err
	case set:
		return registerOutput{value: string(view.Setting(key))}, nil
	case pin:
		p, _ := view.Pin(key)
		return registerOutput{value: p.Digest.String()}, nil
	}
	tag, _ := view.Tag("r", key)
	return registerOutput{value: tag.Digest.String()}, nil
}

func writeRegister(c *Catalog, in registerInput) (registerOutput, error) {
	var do Action
	pin := in.key[:3] == "pin"
	switch {
	case in.kind == "put" && pin:
		do = PutPin{Name: in.key, Digest: oci.MustDigest(in.value)}
	case in.kind == "put":
		do = PutTag{"r", in.key, oci.MustDigest(in.value)}
	case pin:
		do = Unpin{in.key}
	default:
		do = DeleteTag{"r", in.key}
	}
	result, err := c.Apply(context.Background(), Command{Do: do})
	if errors.Is(result.Err, oci.ErrNotFound) && in.kind == "delete" {
		return registerOutput{absent: true}, err
	}
	return registerOutput{}, errors.Join(err, result.Err)
}

// trouble makes something go wrong, and some of it right again, until ctx ends.
func (n *fakeNetwork) trouble(ctx context.Context, all []*fakeNode) {
	for ctx.Err() == nil {
		f := all[n.intn(len(all))]
		if leader := n.nodes[n.leaderStatus().Leader]; leader != nil && n.intn(2) == 0 {
			f = leader
		}
		length := time.Duration(200+n.intn(3500)) * time.Millisecond
		switch n.intn(5) {
		case 0:
			n.splitAtRandom()
		case 1: // alone with its clients
			var others []string
			for _, o := range all {
				if o != f {
					others = append(others, o.id)
				}
			}
			n.split([]string{f.id}, others)
		case 2:
			f.crash()
			if n.intn(4) == 0 {
				length = 9 * time.Second // another voter takes its place
			}
			time.Sleep(length)
			f.start()
		case 3:
			n.slowDisk(f.id, time.Duration(20+n.intn(1500))*time.Millisecond)
		case 4:
			n.heal()
		}
		time.Sleep(length)
		n.slowDisk(f.id, 0)
		if n.intn(3) > 0 {
			n.heal()
		}
	}
}

func (n *fakeNetwork) slowDisk(id string, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow[id] = d
}

// record lets clients work on five voters and a client of theirs in trouble, and returns what they saw.
func record(t *testing.T, seed uint64, stale bool) *history {
	h := &history{}
	bubble(t, seed, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(6, 3)
		for _, f := range all {
			// No answer may lean on clocks that go alike: what one node takes for its lease, others take for long over.
			f.pace = time.Duration(400+n.intn(2200)) * time.Millisecond
			f.start()
		}
		n.votersAre(60*time.Second, 5)
		for i := range manifests {
			if r, err := all[0].catalog.Apply(t.Context(), Command{Do: PutManifest{
				Repository: "r", Descriptor: oci.Descriptor{MediaType: "m", Digest: manifestOf(i), Size: 1},
			}}); err != nil || r.Err != nil {
				t.Fatalf("PutManifest = %v, %v", r.Err, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var working sync.WaitGroup
		for i := range 2 * len(all) {
			random := rand.New(rand.NewPCG(seed, uint64(i)+2))
			working.Go(func() { h.client(ctx, i, all[i%len(all)], random, stale) })
		}
		n.trouble(ctx, all)
		working.Wait()
		n.heal()
		n.votersAre(90*time.Second, 5)
	})
	return h
}

// linearSeeds is how many seeds the proof takes; CATALOG_SEEDS sets another number.
func linearSeeds(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("CATALOG_SEEDS")); err == nil {
		return n
	}
	if testing.Short() {
		return 20
	}
	return 200
}

func TestTagsPinsAndSettingsAreLinearizable(t *testing.T) {
	t.Parallel()
	var operations atomic.Int64
	t.Cleanup(func() { t.Logf("%d operations", operations.Load()) })
	for _, seed := range seedsToRun(t, linearSeeds(t)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			h := record(t, seed, false)
			operations.Add(int64(len(h.done)))
			// The checker needs no virtual time; a history that it cannot judge in a minute is no proof.
			if got := porcupine.CheckOperationsTimeout(register, h.done, time.Minute); got != porcupine.Ok {
				t.Errorf("history of %d operations is %v; want %v", len(h.done), got, porcupine.Ok)
			}
			if t.Failed() {
				t.Logf("replay with: CATALOG_SEED=%d go test ./catalog -run '%s'", seed, parent(t.Name()))
			}
		})
	}
}

func TestTheCheckerFindsStaleReads(t *testing.T) {
	t.Parallel()
	found := 0
	for seed := range uint64(5) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			if h := record(t, seed, true); porcupine.CheckOperationsTimeout(register, h.done, time.Minute) == porcupine.Illegal {
				found++
			}
		})
	}
	if found == 0 {
		t.Error("no history with stale reads was found to be illegal")
	}
}
