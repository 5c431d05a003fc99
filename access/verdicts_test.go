package access_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/oci"
)

var app = oci.Repository{Upstream: "docker.io", Path: "library/app"}

func TestAVerdictIsFreshThenStaleThenForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, k := access.NewVerdicts(10), access.NewSecret().KeyOf("Bearer a")
		v.Allow(k, app, time.Minute, time.Hour)
		for _, at := range []struct {
			after        time.Duration
			fresh, known bool
		}{{0, true, true}, {59 * time.Second, true, true}, {time.Second, false, true}, {time.Hour - time.Second, false, true}, {time.Second, false, false}} {
			time.Sleep(at.after)
			verdict, fresh, known := v.Ask(k, app)
			if fresh != at.fresh || known != at.known || known && verdict.Err() != nil {
				t.Errorf("after %v more: Ask = %v, fresh %v, known %v; want %v, %v", at.after, verdict, fresh, known, at.fresh, at.known)
			}
		}
		if v.Len() != 0 {
			t.Errorf("%d verdicts take room; want none", v.Len())
		}
	})
}

func TestARefusalTakesTheRightAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, k := access.NewVerdicts(10), access.NewSecret().KeyOf("Bearer a")
		v.Allow(k, app, time.Minute, time.Hour)
		v.Deny(k, app, access.Denied, time.Minute)
		verdict, fresh, known := v.Ask(k, app)
		if !errors.Is(verdict.Err(), oci.ErrDenied) || !fresh || !known {
			t.Errorf("Ask after a refusal = %v, %v, %v; want denied, fresh", verdict, fresh, known)
		}
		time.Sleep(time.Minute)
		if verdict, _, known := v.Ask(k, app); known {
			t.Errorf("Ask after the refusal's time = %v; want nothing, nothing stale either", verdict)
		}
		v.Deny(k, app, access.NotFound, time.Minute)
		v.Allow(k, app, time.Minute, 0)
		if verdict, _, _ := v.Ask(k, app); verdict != access.MayRead {
			t.Errorf("Ask after the right was given = %v; want MayRead", verdict)
		}
		v.Forget(k, app)
		if verdict, _, known := v.Ask(k, app); known || !errors.Is(verdict.Err(), oci.ErrUnavailable) {
			t.Errorf("Ask after Forget = %v, known %v; want nothing", verdict, known)
		}
	})
}

func TestVerdictsAreOfOneCredentialAndOneRepository(t *testing.T) {
	secret, v := access.NewSecret(), access.NewVerdicts(10)
	v.Allow(secret.KeyOf("Bearer a"), app, time.Minute, 0)
	if _, _, known := v.Ask(secret.KeyOf("Bearer b"), app); known {
		t.Error("another credential has the right, too")
	}
	for _, other := range []oci.Repository{{Upstream: "quay.io", Path: app.Path}, {Upstream: app.Upstream, Path: "library/app2"}} {
		if _, _, known := v.Ask(secret.KeyOf("Bearer a"), other); known {
			t.Errorf("the right holds for %s, too", other)
		}
	}
}

func TestWrongCredentialsPushNoRightOut(t *testing.T) {
	secret, v := access.NewSecret(), access.NewVerdicts(100)
	good := secret.KeyOf("Bearer good")
	v.Allow(good, app, time.Hour, 0)
	for i := range 100_000 {
		v.Deny(secret.KeyOf(access.Credential(fmt.Sprintf("Bearer %d", i))), app, access.Denied, time.Hour)
	}
	if verdict, fresh, _ := v.Ask(good, app); verdict != access.MayRead || !fresh {
		t.Errorf("Ask after 100,000 refusals = %v, %v; want the right", verdict, fresh)
	}
	if v.Len() > 101 {
		t.Errorf("%d verdicts are kept; want at most 101", v.Len())
	}
}

func TestWhatIsAskedForStaysLongerThanWhatIsNot(t *testing.T) {
	secret, v := access.NewSecret(), access.NewVerdicts(100)
	used := secret.KeyOf("Bearer used")
	v.Allow(used, app, time.Hour, 0)
	for i := range 10_000 {
		v.Allow(secret.KeyOf(access.Credential(fmt.Sprintf("Bearer %d", i))), app, time.Hour, 0)
		if _, _, known := v.Ask(used, app); !known {
			t.Fatalf("pushed out by the %dth verdict that nobody asks for", i)
		}
	}
	if v.Len() != 100 {
		t.Errorf("%d verdicts are kept; want 100", v.Len())
	}
}

func TestVerdictsFromManyGoroutines(t *testing.T) {
	secret, v := access.NewSecret(), access.NewVerdicts(16)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				k := secret.KeyOf(access.Credential(fmt.Sprintf("Bearer %d", i%40)))
				switch (g + i) % 4 {
				case 0:
					v.Allow(k, app, time.Minute, 0)
				case 1:
					v.Deny(k, app, access.Unauthorized, time.Minute)
				case 2:
					v.Forget(k, app)
				default:
					if verdict, _, known := v.Ask(k, app); known && verdict != access.MayRead && verdict != access.Unauthorized {
						t.Errorf("Ask = %v; want what was said", verdict)
					}
				}
			}
		})
	}
	wg.Wait()
	if v.Len() > 32 {
		t.Errorf("%d verdicts are kept; want at most 32", v.Len())
	}
}

func BenchmarkVerdict(b *testing.B) {
	secret, v := access.NewSecret(), access.NewVerdicts(10_000)
	credential := access.Credential("Bearer " + string(make([]byte, 1500))) // a token of a common size
	for i := range 10_000 {
		v.Allow(secret.KeyOf(access.Credential(fmt.Sprintf("Bearer %d", i))), app, time.Hour, 0)
	}
	v.Allow(secret.KeyOf(credential), app, time.Hour, 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, fresh, _ := v.Ask(secret.KeyOf(credential), app); !fresh {
			b.Fatal("not remembered")
		}
	}
}
