package adminapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// trustFarm is a farm with trust whose answers a test sets.
type trustFarm struct {
	*farm
	part  adminapi.TrustPart
	fails error
	takes time.Duration

	mu  sync.Mutex
	did []string
}

const secret = "p2p1.very-secret"

func newTrustFarm() *trustFarm {
	return &trustFarm{farm: newFarm(member{id: "a"}), part: adminapi.TrustPart{Mode: "auto", CA: "ab", Epoch: 3, Revoked: []string{"z", "b"}}}
}

func (f *trustFarm) do(ctx context.Context, what string) error {
	time.Sleep(f.takes)
	if ctx.Err() != nil {
		what += " too late"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did = append(f.did, what)
	return f.fails
}

func (f *trustFarm) TrustStatus(context.Context) (adminapi.TrustPart, error) { return f.part, nil }

func (f *trustFarm) FarmCA(context.Context) (string, error) {
	if f.part.CA == "" {
		return "", adminapi.ErrUnknown
	}
	return "-----BEGIN CERTIFICATE-----\n" + f.part.CA, nil
}

func (f *trustFarm) CreateToken(ctx context.Context, ttl time.Duration, uses int) (adminapi.NewToken, error) {
	t := adminapi.NewToken{Token: secret, TokenInfo: adminapi.TokenInfo{ID: "id1", Uses: uses}}
	return t, f.do(ctx, fmt.Sprint("create ", ttl, " ", uses))
}

func (f *trustFarm) Tokens(context.Context) ([]adminapi.TokenInfo, error) {
	return []adminapi.TokenInfo{{ID: "id1", Uses: 2, Used: 1}}, nil
}

func (f *trustFarm) DropToken(ctx context.Context, id string) error { return f.do(ctx, "drop "+id) }

func (f *trustFarm) RevokeNode(ctx context.Context, id string) error { return f.do(ctx, "revoke "+id) }

func (f *trustFarm) ReadmitNode(ctx context.Context, id string) error {
	return f.do(ctx, "readmit "+id)
}
func (f *trustFarm) RotateKey(ctx context.Context) error { return f.do(ctx, "rotate") }

func TestAClientSteersTheFarmsTrust(t *testing.T) {
	f := newTrustFarm()
	c := onSocket(t, f)
	token, err := c.CreateToken(t.Context(), 90*time.Minute, 7)
	if err != nil || token.Token != secret || token.ID != "id1" || token.Uses != 7 {
		t.Errorf("CreateToken() = %v, %v; want id1 for 7", token, err)
	}
	if l, err := c.Tokens(t.Context(), time.Second); err != nil || len(l.Tokens) != 1 || l.Tokens[0].Used != 1 {
		t.Errorf("Tokens() = %+v, %v; want id1, used once", l, err)
	}
	if l, err := c.DropToken(t.Context(), "id1"); err != nil || len(l.Tokens) != 1 {
		t.Errorf("DropToken() = %+v, %v; want those that are left", l, err)
	}
	odd := "node/ä?&id=x #%"
	for what, do := range map[string]func() (adminapi.TrustStatus, error){
		"revoke":  func() (adminapi.TrustStatus, error) { return c.RevokeNode(t.Context(), odd) },
		"readmit": func() (adminapi.TrustStatus, error) { return c.ReadmitNode(t.Context(), odd) },
		"rotate":  func() (adminapi.TrustStatus, error) { return c.RotateKey(t.Context()) },
		"status":  func() (adminapi.TrustStatus, error) { return c.Trust(t.Context(), time.Second) },
	} {
		s, err := do()
		if err != nil || s.Self != "a" || s.Epoch != 3 || !slices.Equal(s.Revoked, []string{"b", "z"}) {
			t.Errorf("%s: %+v, %v; want node a at epoch 3 without b and z", what, s, err)
		}
	}
	slices.Sort(f.did)
	if got, want := fmt.Sprintf("%q", f.did), fmt.Sprintf("%q", []string{"create 1h30m0s 7", "drop id1", "readmit " + odd, "revoke " + odd, "rotate"}); got != want {
		t.Errorf("the client did %s; want %s", got, want)
	}
}

func TestWrongRequestsAboutTrustDoNothing(t *testing.T) {
	f := newTrustFarm()
	h := socketDoor(f)
	for _, path := range []string{
		"/v1/trust/tokens?ttl=soon", "/v1/trust/tokens?ttl=0s", "/v1/trust/tokens?ttl=9000h", "/v1/trust/tokens?uses=0", "/v1/trust/tokens?uses=x",
		"/v1/trust/tokens?uses=10001", "/v1/trust/tokens/revoke", "/v1/trust/tokens/revoke?id=" + secret, "/v1/trust/tokens/revoke?id=a%0Ab",
		"/v1/trust/nodes/revoke", "/v1/trust/nodes/revoke?id=" + strings.Repeat("x", 65), "/v1/trust/nodes/readmit?id=a%0Ab", "/v1/trust/nodes/revoke?id=%FF",
	} {
		wantError(t, path, get(h, path, post), http.StatusBadRequest, "bad_request")
	}
	for _, path := range []string{"/v1/trust/tokens/revoke?id=a", "/v1/trust/nodes/revoke?id=a", "/v1/trust/nodes/readmit?id=a", "/v1/trust/key/rotate"} {
		wantError(t, "GET "+path, get(h, path, nil), http.StatusMethodNotAllowed, "method_not_allowed")
		wantError(t, "over HTTP "+path, get(loopback(f), path, post), http.StatusForbidden, "forbidden")
		wantError(t, "without trust "+path, get(socketDoor(f.farm), path, post), http.StatusNotFound, "not_found")
		wantError(t, "of a page "+path, get(h, path, func(r *http.Request) { post(r); r.Header.Set("Origin", "https://evil.example") }), http.StatusForbidden, "forbidden")
	}
	w := get(h, "/v1/trust/tokens", func(r *http.Request) { r.Method = http.MethodDelete })
	wantError(t, "DELETE", w, http.StatusMethodNotAllowed, "method_not_allowed")
	if got := w.Header().Get("Allow"); got != "GET, HEAD, POST" {
		t.Errorf("DELETE /v1/trust/tokens: Allow is %q; want GET, HEAD, POST", got)
	}
	wantError(t, "POST /v1/trust", get(h, "/v1/trust", post), http.StatusMethodNotAllowed, "method_not_allowed")
	wantError(t, "tokens over HTTP", get(loopback(f), "/v1/trust/tokens", post), http.StatusForbidden, "forbidden")
	if len(f.did) > 0 {
		t.Errorf("requests that were refused did %v; want nothing", f.did)
	}
}

func TestConditionsOfTrustHaveCodes(t *testing.T) {
	f := newTrustFarm()
	h := socketDoor(f)
	for _, row := range []struct {
		fails  error
		status int
		code   string
	}{
		{fmt.Errorf("revoke: %w", adminapi.ErrUnknown), http.StatusNotFound, "unknown"},
		{fmt.Errorf("revoke: %w: files", adminapi.ErrTrustMode), http.StatusConflict, "trust_mode"},
		{adminapi.ErrNoQuorum, http.StatusServiceUnavailable, "no_quorum"},
		{errors.New("disk on fire"), http.StatusInternalServerError, "failed"},
	} {
		f.fails = row.fails
		for _, path := range []string{"/v1/trust/tokens", "/v1/trust/nodes/revoke?id=a"} {
			wantError(t, fmt.Sprint(path, " ", row.fails), get(h, path, post), row.status, row.code)
		}
	}
}

func TestTheSecretOfATokenIsInItsAnswerAndNowhereElse(t *testing.T) {
	f := newTrustFarm()
	var log bytes.Buffer
	cfg := adminapi.Default()
	cfg.UnixSocket = true
	h := adminapi.New(cfg, f, nil, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	w := get(h, "/v1/trust/tokens?ttl=1m", post)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), secret) {
		t.Fatalf("create: %d %s; want the token", w.Code, w.Body)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q; want no-store", got)
	}
	get(h, "/v1/trust/tokens/revoke?id="+secret, post)
	f.fails = errors.New("no")
	get(h, "/v1/trust/tokens", post)
	for _, path := range []string{"/v1/trust/tokens", "/v1/trust", "/v1/node", "/v1/status"} {
		if w := get(h, path, nil); w.Code != http.StatusOK || strings.Contains(w.Body.String(), secret) {
			t.Errorf("GET %s: %d %s; want no secret", path, w.Code, w.Body)
		}
	}
	token := adminapi.NewToken{Token: secret, TokenInfo: adminapi.TokenInfo{ID: "id1"}}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("made", "token", token)
	shown := fmt.Sprintf("%v %+v %#v %s %q", token, token, token, token, token)
	if !strings.Contains(log.String(), "operator acted") || strings.Contains(log.String()+shown, secret) {
		t.Errorf("log %s, shown %s; want what was done, without the secret", log.String(), shown)
	}
}

func TestARevocationWaitsForNoOtherOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTrustFarm()
		f.takes = time.Minute
		h := socketDoor(f)
		codes := make(chan int, 20)
		for range 18 {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second) // its client leaves
				defer cancel()
				codes <- get(h, "/v1/trust/nodes/revoke?id=a", func(r *http.Request) { post(r); *r = *r.WithContext(ctx) }).Code
			}()
		}
		for i := range 18 {
			if got := <-codes; (got == http.StatusServiceUnavailable) != (i < 2) {
				t.Errorf("answer %d: %d; want the first two to be 503", i, got)
			}
		}
		if len(f.did) != 16 || slices.Contains(f.did, "revoke a too late") {
			t.Errorf("%v was done; want 16 revocations, that go on when the client leaves", f.did)
		}
	})
}

// withToken is a door on loopback with an admin token.
func withToken(f adminapi.Farm) http.Handler {
	cfg := adminapi.Default()
	cfg.Listen, cfg.Token = []string{"127.0.0.1:5080"}, "the-admin-token-of-a-node"
	return adminapi.New(cfg, f, nil, discard())
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) {
		post(r)
		r.RemoteAddr = "127.0.0.1:40000"
		r.Header.Set("Authorization", token)
	}
}

func TestOverHTTPTheAdminTokenChangesTheFarm(t *testing.T) {
	f := newTrustFarm()
	h := withToken(f)
	const path = "/v1/trust/nodes/revoke?id=b"
	for _, wrong := range []string{"", "Bearer", "Bearer ", "Basic the-admin-token-of-a-node", "the-admin-token-of-a-node", "Bearer the-admin-token-of-a-nod"} {
		w := get(h, path, bearer(wrong))
		wantError(t, fmt.Sprintf("Authorization %q", wrong), w, http.StatusUnauthorized, "unauthorized")
		if got := w.Header().Get("WWW-Authenticate"); got != "Bearer" {
			t.Errorf("Authorization %q: WWW-Authenticate is %q; want Bearer", wrong, got)
		}
	}
	wantError(t, "from afar", get(h, path, func(r *http.Request) {
		bearer("Bearer the-admin-token-of-a-node")(r)
		r.RemoteAddr = "10.0.0.9:4000"
	}), http.StatusForbidden, "forbidden")
	wantError(t, "of a page", get(h, path, func(r *http.Request) {
		bearer("Bearer the-admin-token-of-a-node")(r)
		r.Header.Set("Origin", "http://evil.example")
	}), http.StatusForbidden, "forbidden")
	if len(f.did) > 0 {
		t.Fatalf("%v was done; want nothing", f.did)
	}
	if w := get(h, path, bearer("bearer the-admin-token-of-a-node")); w.Code != http.StatusOK || len(f.did) != 1 {
		t.Errorf("with the token: %d %s; want 200", w.Code, w.Body)
	}
	if w := get(h, "/v1/trust", nil); w.Code != http.StatusOK {
		t.Errorf("reading without the token: %d; want 200", w.Code)
	}
}

func TestWrongAdminTokensAreSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTrustFarm()
		h := withToken(f)
		start := time.Now()
		for range 3 {
			get(h, "/v1/trust/key/rotate", bearer("Bearer wrong"))
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the first three took %v; want no time", took)
		}
		codes := map[int]int{}
		answers := make(chan *httptest.ResponseRecorder, 100)
		for range 100 {
			go func() { answers <- get(h, "/v1/trust/key/rotate", bearer("Bearer wrong")) }()
		}
		for range 100 {
			codes[(<-answers).Code]++
		}
		if took := time.Since(start); took != 8*time.Second || codes[401] != 8 || codes[429] != 92 {
			t.Errorf("100 at once: %v after %v; want 8 looked at, one a second", codes, took)
		}
		if w := get(h, "/v1/trust/key/rotate", bearer("Bearer the-admin-token-of-a-node")); w.Code != http.StatusOK || time.Since(start) != 9*time.Second {
			t.Errorf("the right one: %d after %v; want 200 after its turn", w.Code, time.Since(start))
		}
		if get(h, "/v1/trust/key/rotate", bearer("Bearer wrong")); time.Since(start) != 9*time.Second {
			t.Errorf("a wrong one after a right one took until %v; want no time", time.Since(start))
		}
	})
}

func TestAnAdminTokenIsLongEnough(t *testing.T) {
	for _, token := range []string{"short", "with spaces in the middle", "line\nbreak-in-the-token", "ümlaut-in-the-middle"} {
		cfg := adminapi.Default()
		cfg.Token = token
		if err := cfg.Validate(); err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("Validate() with token %q = %v; want an error that does not show it", token, err)
		}
	}
}

func TestTheFarmsTrustIsSummedUpAndWarnedOf(t *testing.T) {
	now := time.Now()
	part := func(epoch uint64, since, end time.Duration) *adminapi.TrustPart {
		return &adminapi.TrustPart{
			Mode: "auto", CA: "ab", Epoch: epoch, EpochSince: now.Add(-since), CertificateEnd: now.Add(end), Revoked: []string{fmt.Sprint("r", epoch)},
		}
	}
	day := 24 * time.Hour
	for _, row := range []struct {
		what     string
		parts    []*adminapi.TrustPart
		degraded bool
		want     []string // member: beginning of the text
	}{
		{"all is well", []*adminapi.TrustPart{part(5, time.Hour, 20*day), part(5, time.Minute, 6*day)}, false, nil},
		{"one has not heard for an hour", []*adminapi.TrustPart{part(5, time.Hour, 20*day), part(4, 2*time.Hour, 20*day)}, true, []string{"b: it knows epoch 4"}},
		{"one has not heard yet", []*adminapi.TrustPart{part(5, time.Minute, 20*day), part(4, 2*time.Hour, 20*day)}, false, nil},
		{"one was not renewed", []*adminapi.TrustPart{part(5, time.Hour, 4*day), part(5, time.Hour, 20*day)}, true, []string{"a: its certificate was not renewed"}},
		{"one has run out", []*adminapi.TrustPart{part(5, time.Hour, -time.Hour), part(5, time.Hour, 20*day)}, true, []string{"a: its certificate has run out"}},
		{"one has no trust", []*adminapi.TrustPart{part(5, time.Hour, 20*day), {Mode: adminapi.TrustNone}}, false, []string{": trust mode is none on 1 of 2"}},
	} {
		f := newFarm(
			member{id: "a", node: adminapi.NodeStatus{TrustPart: row.parts[0]}}, member{id: "b", node: adminapi.NodeStatus{TrustPart: row.parts[1]}},
		)
		s, err := adminapi.Collect(t.Context(), f, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range s.Warnings {
			got = append(got, w.Member+": "+w.Text)
		}
		same := slices.EqualFunc(got, row.want, strings.HasPrefix)
		if s.Degraded != row.degraded || !same {
			t.Errorf("%s: degraded %v, warnings %q; want %v, %q", row.what, s.Degraded, got, row.degraded, row.want)
		}
		if s.Trust == nil || s.Trust.Epoch != 5 || s.Trust.CA != "ab" || !slices.Equal(s.Trust.Revoked, []string{"r5"}) {
			t.Errorf("%s: %+v; want what those know who know most", row.what, s.Trust)
		}
	}
	s, err := adminapi.Collect(t.Context(), newFarm(member{id: "a"}), time.Second)
	if err != nil || s.Trust != nil {
		t.Errorf("a farm that does not say: %+v, %v; want nothing", s.Trust, err)
	}
}

// A backup has all hosted names and the farm's sealed secrets: over HTTP it is for who may change the farm.
func TestABackupIsForWhoMayChangeTheFarm(t *testing.T) {
	f := &catalogFarm{farm: newFarm(member{id: "a"}), backup: []byte("secret")}
	cfg := adminapi.Default()
	cfg.Listen = []string{"127.0.0.1:5080"}
	without := adminapi.New(cfg, f, nil, slog.New(slog.DiscardHandler))
	cfg.Token = "a-token-that-nobody-guesses"
	with := adminapi.New(cfg, f, nil, slog.New(slog.DiscardHandler))
	head := func(r *http.Request) { r.Method = http.MethodHead }
	says := func(token, from string) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr = from
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
		}
	}
	const here, there = "127.0.0.1:40000", "10.0.0.9:40000"
	for _, row := range []struct {
		name   string
		h      http.Handler
		how    func(*http.Request)
		status int
	}{
		{"without a token on the node", without, says("", here), http.StatusForbidden},
		{"with a token that the node has not", without, says(cfg.Token, here), http.StatusForbidden},
		{"HEAD", without, head, http.StatusForbidden},
		{"without the token", with, says("", here), http.StatusUnauthorized},
		{"with a wrong token", with, says("another-token-than-that", here), http.StatusUnauthorized},
		{"from another host", with, says(cfg.Token, there), http.StatusForbidden},
		{"with the token", with, says(cfg.Token, here), http.StatusOK},
		{"over the socket", socketDoor(f), says("", ""), http.StatusOK},
	} {
		w := get(row.h, "/v1/catalog/backup", row.how)
		if w.Code != row.status || (row.status == http.StatusOK) != (w.Body.String() == "secret") {
			t.Errorf("a backup %s: %d %.100s; want %d", row.name, w.Code, w.Body, row.status)
		}
	}
	// What else is read stays open.
	for _, path := range []string{"/v1/catalog", "/v1/status", "/v1/node", "/v1/members"} {
		if w := get(with, path, says("", here)); w.Code != http.StatusOK {
			t.Errorf("GET %s without the token = %d; want 200", path, w.Code)
		}
	}
	server := httptest.NewServer(with)
	defer server.Close()
	c, err := adminapi.NewClient(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := c.Backup(t.Context(), &out); err == nil || out.Len() > 0 {
		t.Errorf("Backup() without the token = %v with %d bytes; want a refusal", err, out.Len())
	}
	if _, err := c.WithToken(cfg.Token).Backup(t.Context(), &out); err != nil || out.String() != "secret" {
		t.Errorf("Backup() with the token = %v, %q; want it", err, out.String())
	}
}

func TestTheFarmsCAIsNoSecret(t *testing.T) {
	f := newTrustFarm()
	w := get(loopback(f), "/v1/trust/ca", nil)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"pem": "-----BEGIN CERTIFICATE-----\nab"`) {
		t.Errorf("GET /v1/trust/ca = %d %s; want the certificate", w.Code, w.Body)
	}
	if ca, err := onSocket(t, f).FarmCA(t.Context(), time.Second); err != nil || !strings.HasSuffix(ca.PEM, "\nab") {
		t.Errorf("FarmCA() = %+v, %v; want the certificate", ca, err)
	}
	f.part.CA = ""
	wantError(t, "without a CA", get(loopback(f), "/v1/trust/ca", nil), http.StatusNotFound, "unknown")
}
