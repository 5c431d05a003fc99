package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Effect is what a fault does to a request.
type Effect string

// The effects, with the fields of Fault that they use. Offsets are those of the blob, not of the
// response, so that a resumed read meets the same fault at the same byte.
const (
	Slow        Effect = "slow"         // Rate: the body goes at so many bytes a second
	Delay       Effect = "delay"        // Wait: so long before the headers
	Hang        Effect = "hang"         // nothing at all is answered
	HangAt      Effect = "hang-at"      // At: the body stops before byte At, the connection stays open
	CutAt       Effect = "cut-at"       // At: the connection is closed before byte At
	FlipAt      Effect = "flip-at"      // At: the byte at At has all its bits turned, the length stays
	WrongLength Effect = "wrong-length" // At: the length is off by At, in the header and the body alike
	Status      Effect = "status"       // Status, RetryAfter in Wait: answered without content
	NoRange     Effect = "no-range"     // a Range is not seen: 200 with everything
	Expired     Effect = "expired"      // Redirect only: the URL has expired already, the CDN says 403
	Down        Effect = "down"         // open connections and new ones are reset; Kind picks the endpoint
	Refuse      Effect = "refuse"       // as Down, but the port is closed; only where the Hub itself listens
)

// Fault is an effect and the requests that meet it. Faults of kind Any meet every request, before
// its token is looked at; others only requests that were let in.
type Fault struct {
	// Kind, Method, Repo and Ref pick requests; empty ones match all. Ref is a tag or a digest.
	Kind   Kind
	Method string
	Repo   string
	Ref    string
	// Count is how many requests (connections for Down) meet the fault; 0: all until it is cleared.
	Count int

	Do     Effect
	At     int64
	Rate   int64
	Status int
	Wait   time.Duration
}

// wireFault is a Fault as the admin API reads and writes it.
type wireFault struct {
	ID     string `json:"id,omitempty"`
	Kind   Kind   `json:"kind,omitempty"`
	Method string `json:"method,omitempty"`
	Repo   string `json:"repo,omitempty"`
	Ref    string `json:"ref,omitempty"`
	Count  int    `json:"count,omitempty"`
	Do     Effect `json:"do"`
	At     int64  `json:"at,omitempty"`
	Rate   int64  `json:"rate,omitempty"`
	Status int    `json:"status,omitempty"`
	Wait   string `json:"wait,omitempty"`
}

// MarshalJSON writes f with Wait as text, such as "1.5s".
func (f Fault) MarshalJSON() ([]byte, error) { return json.Marshal(f.wire("")) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Fault) UnmarshalJSON(raw []byte) error {
	var w wireFault
	if err := json.Unmarshal(raw, &w); err != nil {
		return err
	}
	*f = Fault{
		Kind: w.Kind, Method: w.Method, Repo: w.Repo, Ref: w.Ref, Count: w.Count,
		Do: w.Do, At: w.At, Rate: w.Rate, Status: w.Status,
	}
	if w.Wait == "" {
		return nil
	}
	wait, err := time.ParseDuration(w.Wait)
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	f.Wait = wait
	return nil
}

func (f Fault) wire(id string) wireFault {
	w := wireFault{
		ID: id, Kind: f.Kind, Method: f.Method, Repo: f.Repo, Ref: f.Ref, Count: f.Count,
		Do: f.Do, At: f.At, Rate: f.Rate, Status: f.Status,
	}
	if f.Wait != 0 {
		w.Wait = f.Wait.String()
	}
	return w
}

// Validate reports everything that is wrong with f.
func (f Fault) Validate() error {
	var errs []error
	check := func(ok bool, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %s", f.Do, text))
		}
	}
	check(f.Count >= 0, "count is below 0")
	switch f.Kind {
	case Any, Ping, Token, Manifest, Blob, Redirect, Upload, Tags, Referrers, Catalog:
	default:
		check(false, fmt.Sprintf("%q is no kind of request", string(f.Kind)))
	}
	switch f.Do {
	case Slow:
		check(f.Rate > 0, "rate must be above 0")
	case Delay:
		check(f.Wait > 0, "wait must be above 0")
	case HangAt, CutAt, FlipAt:
		check(f.At >= 0, "at is below 0")
	case WrongLength:
		check(f.At != 0, "at must not be 0")
	case Status:
		check(f.Status >= 200 && f.Status < 600, "status must be from 200 to 599")
	case Expired:
		check(f.Kind == Redirect, "only redirects expire")
	case Down, Refuse:
		check(f.Method == "" && f.Repo == "" && f.Ref == "", "picks endpoints by kind alone")
	case Hang, NoRange:
	default:
		errs = append(errs, fmt.Errorf("%q is no effect", string(f.Do)))
	}
	return errors.Join(errs...)
}

// meets tells whether a request is one that the fault is for.
func (f Fault) meets(q request) bool {
	return (f.Kind == Any || f.Kind == q.kind) && (f.Method == "" || f.Method == q.method) &&
		(f.Repo == "" || f.Repo == q.repo) && (f.Ref == "" || f.Ref == q.ref)
}

// fault is a Fault in force.
type fault struct {
	Fault
	id      string
	left    int
	cleared chan struct{} // closed when it is cleared: what hangs in it goes on
}

// faults is the set of faults in force. Safe for concurrent use.
type faults struct {
	mu   sync.Mutex
	next int
	list []*fault
}

func (s *faults) add(f Fault) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	added := &fault{Fault: f, id: strconv.Itoa(s.next), left: f.Count, cleared: make(chan struct{})}
	s.list = append(s.list, added)
	return added
}

// clear ends the fault with that id, or all of them if id is empty, and returns those it ended.
func (s *faults) clear(id string) []*fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept, ended []*fault
	for _, f := range s.list {
		if id != "" && f.id != id {
			kept = append(kept, f)
			continue
		}
		close(f.cleared)
		ended = append(ended, f)
	}
	s.list = kept
	return ended
}

func (s *faults) all() []*fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*fault(nil), s.list...)
}

// take returns the faults that pick accepts and counts them down. A fault that is used up stays in
// the list (so that clearing it frees what hangs in it) and is not returned again.
func (s *faults) take(pick func(f Fault) bool) []*fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var met []*fault
	for _, f := range s.list {
		if f.Count > 0 && f.left == 0 || !pick(f.Fault) {
			continue
		}
		f.left--
		met = append(met, f)
	}
	return met
}

// first returns the first of met that has an effect, or nil.
func first(met []*fault, do Effect) *fault {
	for _, f := range met {
		if f.Do == do {
			return f
		}
	}
	return nil
}
