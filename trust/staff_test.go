package trust

import (
	"testing"
	"time"
)

// TestAFounderThatIsLostSoonLeavesItsAuthority: else the farm could never let anybody in again, nor renew a certificate.
func TestAFounderThatIsLostSoonLeavesItsAuthority(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b")
		founder, other := all[0], all[1]
		if other.CanSign() {
			t.Fatal("a node that is no voter can sign")
		}
		w.setVoters("a", "b")
		time.Sleep(2 * staffSoon)
		w.settle()
		founder.stop()
		w.setVoters("b")
		if !other.CanSign() {
			t.Fatal("the founder has taken the authority with it")
		}
		c := w.open("c")
		if err := c.Join(t.Context(), w.token(other, 1), []string{"b"}); err != nil {
			t.Errorf("Join without the founder = %v", err)
		}
	})
}
