package catalog

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pullonce/pullonce/oci"
)

// largeLog yields the commands of a large farm: repositories with tags, each tag with a manifest of its own, a config
// and a layer of its own, and two layers that all of its repository share.
func largeLog(repositories, tags int) func(yield func(*raft.Log) bool) {
	return func(yield func(*raft.Log) bool) {
		index := uint64(0)
		do := func(a Action) bool {
			index++
			c := Command{start.Add(time.Duration(index) * time.Millisecond), a}
			return yield(&raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: c.marshal()})
		}
		for r := range repositories {
			repository := fmt.Sprintf("team-%d/service-%d", r%100, r)
			shared := []oci.Digest{blob(fmt.Sprint("base", r%50)), blob(fmt.Sprint("runtime", r))}
			for _, d := range shared {
				if !do(LinkBlob{repository, d, 50 << 20}) {
					return
				}
			}
			for i := range tags {
				name := fmt.Sprint(r, "/", i)
				put := image(repository, name, append(shared, blob("config"+name), blob("layer"+name))...)
				put.Tags = []string{fmt.Sprintf("v1.%d.0", i)}
				for _, a := range []Action{LinkBlob{repository, put.Blobs[2], 2000}, LinkBlob{repository, put.Blobs[3], 5 << 20}, put} {
					if !do(a) {
						return
					}
				}
			}
		}
	}
}

// feed applies a log in batches as raft does.
func feed(m *machine, log func(yield func(*raft.Log) bool)) {
	var batch []*raft.Log
	for entry := range log {
		if batch = append(batch, entry); len(batch) == 64 {
			m.ApplyBatch(batch)
			batch = batch[:0]
		}
	}
	m.ApplyBatch(batch)
}

func heapBytes() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestAHundredThousandTagsWeighLittleAndComeBackSoon(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const repositories, tags = 10_000, 10
	before := heapBytes()
	m := newMachine()
	began := time.Now()
	feed(m, largeLog(repositories, tags))
	applied := time.Since(began)
	weight := heapBytes() - before
	for _, r := range []int{0, repositories - 1} {
		if got := m.view().Tags(fmt.Sprintf("team-%d/service-%d", r%100, r), "", 100); len(got) != tags {
			t.Fatalf("repository %d has %d tags; want %d", r, len(got), tags)
		}
	}
	began = time.Now()
	raw := snapshotOf(t, m)
	written := time.Since(began)
	began = time.Now()
	other := newMachine()
	if err := other.Restore(io.NopCloser(bytes.NewReader(raw))); err != nil {
		t.Fatal(err)
	}
	read := time.Since(began)
	t.Logf("%d commands applied in %v; %d MiB of heap; snapshot of %d MiB written in %v, restored in %v",
		m.view().Index(), applied, weight>>20, len(raw)>>20, written, read)
	if weight > 140<<20 {
		t.Errorf("the state weighs %d MiB; want at most 140", weight>>20)
	}
	if read > 2*applied { // a log that is cut must be worth it
		t.Errorf("restored in %v, %v after so many commands; want it within twice the time that these took", read, applied)
	}
	runtime.KeepAlive(m)
}

func BenchmarkApply(b *testing.B) {
	m := newMachine()
	feed(m, largeLog(1000, 10))
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("PutTag/batch=%d", batch), func(b *testing.B) {
			index := m.view().Index()
			entries := make([]*raft.Log, batch)
			for b.Loop() {
				for i := range entries {
					index++
					r := int(index*7919) % 1000
					a := PutTag{fmt.Sprintf("team-%d/service-%d", r%100, r), fmt.Sprint("t", index%100), blob(fmt.Sprint(r, "/", index%10))}
					entries[i] = &raft.Log{Index: index, Data: Command{start, a}.marshal()}
				}
				m.ApplyBatch(entries)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/command")
		})
	}
}

func BenchmarkTag(b *testing.B) {
	m := newMachine()
	feed(m, largeLog(1000, 10))
	for i := 0; b.Loop(); i++ {
		if _, ok := m.view().Tag("team-7/service-507", "v1.3.0"); !ok {
			b.Fatal("no tag")
		}
	}
}
