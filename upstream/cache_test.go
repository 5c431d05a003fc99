package upstream

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestACacheForgetsInTimeAndStaysWithinItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache[int, string](3)
		c.put(1, "short", time.Second)
		c.put(2, "long", time.Hour)
		c.put(3, "never", 0)
		if got, ok := c.get(1); !ok || got != "short" {
			t.Errorf("get(1) = %q, %v; want short", got, ok)
		}
		if _, ok := c.get(3); ok {
			t.Error("an entry without time was kept")
		}
		time.Sleep(time.Second)
		if _, ok := c.get(1); ok {
			t.Error("an entry was kept after its time")
		}
		c.put(4, "x", time.Hour)
		c.put(5, "x", time.Hour) // makes room by dropping 1, which is over
		if _, ok := c.get(2); !ok {
			t.Error("an entry in its time went before one that was over")
		}
		for i := range 100 {
			c.put(i, "x", time.Hour)
		}
		if len(c.entries) > 3 {
			t.Errorf("%d entries; want at most 3", len(c.entries))
		}
		c.dropIf(99, func(s string) bool { return s == "y" })
		if _, ok := c.get(99); !ok {
			t.Error("dropIf dropped a value that is not the same")
		}
		c.dropIf(99, func(s string) bool { return s == "x" })
		if _, ok := c.get(99); ok {
			t.Error("dropIf kept the value")
		}
	})
}

func TestOneProbeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{limit: 2, wait: time.Second}
		allowed := func(want bool) {
			t.Helper()
			if got := b.allow(); got != want {
				t.Errorf("allow = %v; want %v", got, want)
			}
		}
		allowed(true)
		b.done(failing)
		allowed(true)
		if opened, _ := b.done(failing); !opened {
			t.Error("the second failure did not open it")
		}
		allowed(false)
		time.Sleep(time.Second)
		allowed(true)
		allowed(false)
		b.done(unknown) // the one who probed left
		allowed(true)
		b.done(failing)
		allowed(false)
		for range 20 { // the wait grows, up to 16 s
			time.Sleep(16 * time.Second)
			allowed(true)
			b.done(failing)
		}
		time.Sleep(16 * time.Second)
		allowed(true)
		if _, closed := b.done(healthy); !closed || b.open() {
			t.Error("a probe that went well did not close it")
		}
		allowed(true)
		b.done(failing)
		allowed(true)
	})
}

func TestAHostThatHangsIsLeftAloneSooner(t *testing.T) {
	b := &breaker{limit: 5, wait: time.Second}
	for i := range 2 {
		if !b.allow() {
			t.Fatalf("request %d to a host that hangs is refused; want the third one to be", i+1)
		}
		b.done(hanging)
	}
	if b.allow() {
		t.Error("a third client may wait for a host that has hung twice")
	}
}
