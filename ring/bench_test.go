package ring_test

import (
	"fmt"
	"testing"

	"github.com/pullonce/pullonce/ring"
)

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			builder := ring.NewBuilder(ring.DefaultPartitions)
			members := farm(n)
			builder.Update(members)
			gone := false
			for b.Loop() {
				gone = !gone
				if gone {
					builder.Update(members[:n-1])
				} else {
					builder.Update(members)
				}
			}
		})
	}
}

func BenchmarkOwnerWithoutFirst(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			v := ring.NewBuilder(ring.DefaultPartitions).Update(farm(n))
			d, i := digest(0), 0
			for b.Loop() { // more members than cached tables: each one is new
				_ = v.OwnerWithout(d, fmt.Sprintf("node-%04d", i%n), fmt.Sprintf("node-%04d", (i/n+i+1)%n))
				i++
			}
		})
	}
}

func BenchmarkOwner(b *testing.B) {
	v := ring.NewBuilder(ring.DefaultPartitions).Update(farm(100))
	d := digest(0)
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			_ = v.Owner(d)
		}
	})
	b.Run("without", func(b *testing.B) {
		for b.Loop() {
			_ = v.OwnerWithout(d, "node-0007")
		}
	})
}
