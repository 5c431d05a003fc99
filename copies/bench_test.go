package copies

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

// cpu is how much processor time this process has taken.
func cpu() time.Duration {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// patterned gives a block again and again, left bytes in all.
type patterned struct {
	block []byte
	left  int64
	at    int
}

func (p *patterned) Read(buf []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := copy(buf, p.block[p.at:min(int64(p.at)+p.left, int64(len(p.block)))])
	p.at = (p.at + n) % len(p.block)
	p.left -= int64(n)
	return n, nil
}

// BenchmarkPush is one upload and its copies: alone on one node; pushed to two others when it is there; sent along.
func BenchmarkPush(b *testing.B) {
	for _, size := range []int64{4 << 10, mebi, 64 * mebi, 1024 * mebi} {
		block := blobstoretest.Data(1, int(min(size, mebi)))
		d := digestOf(b, size, block)
		for _, how := range []string{"alone", "after", "along"} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, how), func(b *testing.B) {
				r := newRig(b, 3, nil, nil)
				b.SetBytes(size)
				var spent, tail time.Duration
				var k float64
				for b.Loop() {
					begin := cpu()
					tail += pushOnce(b, r, how, d, &patterned{block: block, left: size})
					spent += cpu() - begin
					k++
					b.StopTimer()
					for _, n := range r.nodes {
						_ = n.store.Delete(d)
					}
					b.StartTimer()
				}
				b.ReportMetric(spent.Seconds()/k/float64(size)*(1<<30), "cpu-s/GiB")
				b.ReportMetric(tail.Seconds()*1000/k, "tail-ms")
				if failed := r.nodes[0].Stats().Failed; failed > 0 {
					b.Errorf("%d copies were not made at once", failed)
				}
			})
		}
	}
}

// pushOnce pushes a blob and returns how long the copies took after its commit.
func pushOnce(b *testing.B, r *rig, how string, d oci.Digest, data io.Reader) time.Duration {
	n := r.nodes[0]
	u := n.begin(oci.SHA256)
	if how == "along" {
		n.Follow(b.Context(), u.ID())
	}
	if _, err := u.Append(b.Context(), data); err != nil {
		b.Fatal(err)
	}
	id := u.ID()
	if err := u.Commit(b.Context(), d, blobstore.Origin{Hosted: true}); err != nil {
		b.Fatal(err)
	}
	committed := time.Now()
	if how != "alone" {
		n.Followed(b.Context(), id, d)
		if err := n.Put(b.Context(), d, nil); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(committed)
}

func digestOf(b *testing.B, size int64, block []byte) oci.Digest {
	b.Helper()
	h := oci.FromBytes(oci.SHA256, nil).New()
	if _, err := io.Copy(h, &patterned{block: block, left: size}); err != nil {
		b.Fatal(err)
	}
	return oci.FromHash(oci.SHA256, h)
}
