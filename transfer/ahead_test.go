package transfer

import (
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

func TestABlockComesInOrderIfTheUpstreamHasBeenAskedForIt(t *testing.T) {
	const pieceSize = 4 << 20
	list := piece.Issue(oci.FromBytes(oci.SHA256, nil), 1000*pieceSize, pieceSize, "node")
	for _, c := range []struct {
		what   string
		source bool
		asked  int
		piece  int64
		want   bool
	}{
		{"nothing is read", false, 0, 0, false},
		{"the next piece", true, 0, 0, true},
		{"far beyond what is known, nothing asked for", true, 0, shortLane, false},
		{"asked for", true, 40, 39, true},
		{"in the lane that comes next", true, 40, 40 + shortLane - 1, true},
		{"beyond", true, 40, 40 + shortLane, false},
		{"all is asked for at once", true, wholeBlob, 999, true},
	} {
		task := &task{source: c.source, list: list, asked: c.asked}
		if got := task.comes(c.piece * pieceSize); got != c.want {
			t.Errorf("%s: comes(piece %d) = %v; want %v", c.what, c.piece, got, c.want)
		}
	}
}
