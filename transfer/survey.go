package transfer

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/pullonce/pullonce/oci"
)

const (
	// surveyFor is how long the outcome of a survey holds for further blocks of the blob: a client reads many, and the
	// members are not asked for each.
	surveyFor = 5 * time.Second
	// surveyBriefly is how long it holds when nobody was found and some members have said nothing.
	surveyBriefly = time.Second
	// maxSurveys bounds the outcomes that are remembered.
	maxSurveys = 4096
)

// surveys remembers for a short time which blobs other nodes were found to have or to fetch.
type surveys struct {
	flight singleflight.Group // by digest

	mu       sync.Mutex
	outcomes map[oci.Digest]outcome
}

// An outcome is what the members said to one question.
type outcome struct {
	elsewhere bool   // another node has the blob, or fetches it
	lost      string // who counted as lost then: when that changes they are asked anew
	until     time.Time
}

// isElsewhere tells whether another node has a blob or fetches it, so that no byte of it is to be read from the upstream
// here. It asks the members where what this node knows as an owner does not settle that, as task.own does: when somebody
// is lost, the partition is not settled, the blob was on its way elsewhere, or another node owns it.
func (e *Engine) isElsewhere(ctx context.Context, d oci.Digest, lost []string) bool {
	if e.holders.of(d, lost) != "" {
		return true
	}
	if len(lost) == 0 && !e.uncertain(d) {
		return false
	}
	names := namesOf(lost)
	if o, ok := e.surveys.recall(d, names); ok {
		return o
	}
	for {
		found, err, _ := e.surveys.flight.Do(d.String()+" "+names, func() (any, error) {
			return e.survey(ctx, d, names)
		})
		if err == nil || ctx.Err() != nil {
			return found.(bool)
		} // who asked has given up; this one has not
	}
}

// survey asks all members and remembers what they said. It fails when who asks gives up before they have.
func (e *Engine) survey(ctx context.Context, d oci.Digest, lost string) (bool, error) {
	found, silent := e.askHoldings(ctx, d)
	for _, f := range found {
		if f.holding.GetWhole() {
			e.holders.add(d, f.node.ID)
		}
	}
	elsewhere, holds := len(found) > 0, surveyFor
	switch {
	case elsewhere:
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case silent > 0:
		holds = surveyBriefly
	}
	e.surveys.remember(d, outcome{elsewhere, lost, time.Now().Add(holds)})
	return elsewhere, nil
}

// namesOf is a set of nodes as text.
func namesOf(ids []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(ids))), " ")
}

func (s *surveys) recall(d oci.Digest, lost string) (elsewhere, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.outcomes[d]
	return o.elsewhere, ok && o.lost == lost && time.Now().Before(o.until)
}

func (s *surveys) remember(d oci.Digest, o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outcomes == nil || len(s.outcomes) >= maxSurveys {
		s.outcomes = make(map[oci.Digest]outcome) // who is forgotten is asked about once more
	}
	s.outcomes[d] = o
}
