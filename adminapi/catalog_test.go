package adminapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// catalogFarm is a farm with a catalog whose answers a test sets.
type catalogFarm struct {
	*farm
	status  adminapi.CatalogStatus
	backup  []byte
	fails   error         // of all but the status; of a backup after its bytes
	takes   time.Duration // what changes the farm
	did     []string
	got     []byte // restored
	expired error  // the operation's context
}

func newCatalogFarm() *catalogFarm {
	return &catalogFarm{farm: newFarm(member{id: "a"}), status: adminapi.CatalogStatus{Self: "a", State: adminapi.CatalogVoter, ID: "c"}}
}

func (f *catalogFarm) do(ctx context.Context, what string) error {
	if f.takes > 0 {
		time.Sleep(f.takes)
	}
	f.expired = ctx.Err()
	f.did = append(f.did, what)
	return f.fails
}

func (f *catalogFarm) CatalogStatus(context.Context) (adminapi.CatalogStatus, error) {
	return f.status, nil
}

func (f *catalogFarm) Backup(_ context.Context, w io.Writer) error {
	_, err := w.Write(f.backup)
	return errors.Join(err, f.fails)
}

func (f *catalogFarm) Restore(ctx context.Context, backup io.Reader, force bool) (err error) {
	if f.got, err = io.ReadAll(backup); err != nil {
		return err
	}
	return f.do(ctx, fmt.Sprint("restore ", force))
}

func (f *catalogFarm) Recover(ctx context.Context, force bool) (adminapi.Recovered, error) {
	return adminapi.Recovered{Tags: 3}, f.do(ctx, fmt.Sprint("recover ", force))
}
func (f *catalogFarm) Bootstrap(ctx context.Context) error { return f.do(ctx, "bootstrap") }
func (f *catalogFarm) Leave(ctx context.Context) error     { return f.do(ctx, "leave") }

func (f *catalogFarm) Collect(ctx context.Context, dryRun bool) (adminapi.Collected, error) {
	nodes := []adminapi.NodeCollected{{ID: "a", Blobs: 1, Bytes: 10}, {ID: "b", Blobs: 2, Bytes: 5}}
	return adminapi.Collected{Nodes: nodes, Bytes: 99}, f.do(ctx, fmt.Sprint("collect ", dryRun))
}

// socketDoor is f's door as the unix socket has it.
func socketDoor(f adminapi.Farm) http.Handler {
	cfg := adminapi.Default()
	cfg.UnixSocket = true
	return adminapi.New(cfg, f, nil, discard())
}

func post(r *http.Request) { r.Method = http.MethodPost }

// posts are the endpoints that change the farm.
var posts = []string{"/v1/catalog/restore", "/v1/catalog/recover", "/v1/catalog/bootstrap", "/v1/catalog/leave", "/v1/gc"}

func TestTheFarmIsChangedOverTheSocketAlone(t *testing.T) {
	f := newCatalogFarm()
	cfg := adminapi.Default()
	cfg.Listen, cfg.Socket = []string{"127.0.0.1:5080"}, "/run/p2pd/p2pd.sock"
	h := adminapi.New(cfg, f, nil, discard())
	for _, path := range posts {
		w := get(h, path, post)
		wantError(t, path, w, http.StatusForbidden, "forbidden")
		if !strings.Contains(w.Body.String(), "/run/p2pd/p2pd.sock") {
			t.Errorf("POST %s: %s; want the socket named", path, w.Body)
		}
		w = get(socketDoor(f), path, nil)
		wantError(t, path, w, http.StatusMethodNotAllowed, "method_not_allowed")
		if got := w.Header().Get("Allow"); got != "POST" {
			t.Errorf("GET %s: Allow is %q; want POST", path, got)
		}
		wantError(t, path, get(socketDoor(f), path, func(r *http.Request) {
			post(r)
			r.Header.Set("Origin", "https://evil.example")
		}), http.StatusForbidden, "forbidden")
		wantError(t, path, get(socketDoor(f.farm), path, post), http.StatusNotFound, "not_found")
	}
	wantError(t, "a body", get(socketDoor(f), "/v1/gc", func(r *http.Request) { post(r); r.ContentLength = 5 }), 400, "bad_request")
	wantError(t, "a flag", get(socketDoor(f), "/v1/gc?dry_run=perhaps", post), http.StatusBadRequest, "bad_request")
	if len(f.did) > 0 {
		t.Errorf("requests that were refused did %v; want nothing", f.did)
	}
}

func TestAClientChangesTheFarm(t *testing.T) {
	f := newCatalogFarm()
	c := onSocket(t, f)
	backup := bytes.Repeat([]byte("backup"), 1<<20)
	s, err := c.Restore(t.Context(), bytes.NewReader(backup), -1, true)
	if err != nil || s.State != adminapi.CatalogVoter || !bytes.Equal(f.got, backup) {
		t.Errorf("Restore() = %+v, %v with %d bytes; want a voter, and %d", s, err, len(f.got), len(backup))
	}
	if _, err := c.Bootstrap(t.Context()); err != nil {
		t.Errorf("Bootstrap() = %v; want no error", err)
	}
	if _, err := c.Leave(t.Context()); err != nil {
		t.Errorf("Leave() = %v; want no error", err)
	}
	if r, err := c.Recover(t.Context(), false); err != nil || r.Tags != 3 {
		t.Errorf("Recover() = %+v, %v; want 3 tags", r, err)
	}
	d, err := c.Collect(t.Context(), true)
	if err != nil || !d.DryRun || d.Blobs != 3 || d.Bytes != 15 {
		t.Errorf("Collect(dry run) = %+v, %v; want 3 blobs of 15 bytes", d, err)
	}
	if got, want := fmt.Sprint(f.did), "[restore true bootstrap leave recover false collect true]"; got != want {
		t.Errorf("the client did %s; want %s", got, want)
	}
	if s, err := c.Catalog(t.Context(), time.Second); err != nil || s.ID != "c" || s.Degraded {
		t.Errorf("Catalog() = %+v, %v; want c, in order", s, err)
	}
}

func TestWhyAnOperationFailedIsTold(t *testing.T) {
	f := newCatalogFarm()
	c := onSocket(t, f)
	for _, row := range []struct {
		fails  error
		status int
		code   string
	}{
		{fmt.Errorf("read: %w", adminapi.ErrNoQuorum), http.StatusServiceUnavailable, "no_quorum"},
		{adminapi.ErrQuorum, http.StatusConflict, "has_quorum"},
		{fmt.Errorf("restore: %w", adminapi.ErrBadBackup), http.StatusBadRequest, "bad_backup"},
		{errors.New("no space left on device"), http.StatusInternalServerError, "failed"},
		{context.DeadlineExceeded, http.StatusGatewayTimeout, "timeout"},
	} {
		f.fails = row.fails
		_, err := c.Restore(t.Context(), strings.NewReader("backup"), 6, false)
		answer, ok := errors.AsType[*adminapi.AnswerError](err)
		if !ok || answer.Status != row.status || answer.Code != row.code {
			t.Errorf("Restore() that fails with %v = %v; want %d %s", row.fails, err, row.status, row.code)
		}
	}
	broken := io.MultiReader(strings.NewReader("back"), brokenFile{})
	if _, err := c.Restore(t.Context(), broken, 100, false); !errors.Is(err, errBrokenFile) {
		t.Errorf("Restore() from a broken file = %v; want %v", err, errBrokenFile)
	}
}

var errBrokenFile = errors.New("input/output error")

type brokenFile struct{}

func (brokenFile) Read([]byte) (int, error) { return 0, errBrokenFile }

func TestABackupIsWholeOrAnError(t *testing.T) {
	f := newCatalogFarm()
	c := onSocket(t, f)
	for _, size := range []int{1, 3 << 20} {
		f.backup, f.fails = bytes.Repeat([]byte("x"), size), nil
		var out bytes.Buffer
		if n, err := c.Backup(t.Context(), &out); err != nil || n != int64(size) || !bytes.Equal(out.Bytes(), f.backup) {
			t.Errorf("Backup() = %d, %v; want the %d bytes of the catalog", n, err, size)
		}
		f.fails = errors.New("disk gone")
		if n, err := c.Backup(t.Context(), io.Discard); err == nil {
			t.Errorf("Backup() that ends early = %d, nil; want an error", n)
		}
	}
	f.backup, f.fails = nil, adminapi.ErrNoQuorum
	_, err := c.Backup(t.Context(), io.Discard)
	if answer, ok := errors.AsType[*adminapi.AnswerError](err); !ok || answer.Code != "no_quorum" {
		t.Errorf("Backup() without a quorum = %v; want no_quorum", err)
	}
}

func TestABackupWithoutItsSumIsNoBackup(t *testing.T) {
	for name, trailer := range map[string]string{"none": "", "another": "sha-256=:AAAA:"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "Content-Digest")
			_, _ = io.WriteString(w, "a proxy's cut")
			w.Header().Set("Content-Digest", trailer)
		}))
		if _, err := client(t, server.URL).Backup(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "not what was sent") {
			t.Errorf("Backup() with %s sum = %v; want an error", name, err)
		}
		server.Close()
	}
}

func TestOneOperationAtATimeAndItGoesOnWithoutItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newCatalogFarm()
		f.takes = 5 * time.Minute // longer than any deadline of an answer
		h := socketDoor(f)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int)
		go func() {
			w := get(h, "/v1/catalog/bootstrap", func(r *http.Request) {
				*r = *r.WithContext(ctx)
				post(r)
			})
			done <- w.Code
		}()
		synctest.Wait()
		wantError(t, "second operation", get(h, "/v1/gc", post), http.StatusServiceUnavailable, "busy")
		cancel()
		<-done
		if len(f.did) != 1 || f.expired != nil {
			t.Errorf("after the client left: %v, %v; want the bootstrap done", f.did, f.expired)
		}
		if w := get(h, "/v1/gc", post); w.Code != http.StatusOK {
			t.Errorf("next operation: %d %s; want 200", w.Code, w.Body)
		}
	})
}

func TestAdviceFitsTheStateOfTheCatalog(t *testing.T) {
	alive, gone := adminapi.Voter{Node: "a", Alive: true}, adminapi.Voter{Node: "b"}
	for _, row := range []struct {
		status   adminapi.CatalogStatus
		degraded bool
		advice   string // "" is none
	}{
		{adminapi.CatalogStatus{State: adminapi.CatalogVoter, Voters: []adminapi.Voter{alive}}, false, ""},
		{adminapi.CatalogStatus{State: adminapi.CatalogNonVoter}, false, ""},
		{adminapi.CatalogStatus{State: adminapi.CatalogVoter, Trouble: "leases are skipped"}, true, ""},
		{adminapi.CatalogStatus{State: adminapi.CatalogVoter, Voters: []adminapi.Voter{alive, gone}}, true, "b: not reached"},
		{adminapi.CatalogStatus{State: adminapi.CatalogNoQuorum, Voters: []adminapi.Voter{alive, gone}}, true, "2 of 2 voters must be there, and 1 is: start p2pd on b"},
		{adminapi.CatalogStatus{State: adminapi.CatalogNoQuorum}, true, "choosing a leader"},
		{adminapi.CatalogStatus{State: "waiting for seeds (1 of 4)", MissingSeeds: []string{"h:1"}}, true, "when 3 of the 4 seeds in join see each other: start p2pd on the seeds that are missing (h:1)"},
		{adminapi.CatalogStatus{State: "waiting for seeds (many)"}, true, "pushes and hosted tags"},
		{adminapi.CatalogStatus{State: adminapi.CatalogWaiting}, true, "joins one"},
		{adminapi.CatalogStatus{State: adminapi.CatalogSeedListsDiffer}, true, "the same list"},
		{adminapi.CatalogStatus{State: "refused: hosted content in another catalog"}, true, "catalog leave"},
	} {
		f := newCatalogFarm()
		f.status = row.status
		s, err := onSocket(t, f).Catalog(t.Context(), time.Second)
		if err != nil || s.Degraded != row.degraded || !strings.Contains(s.Advice, row.advice) || (row.advice == "") != (s.Advice == "") {
			t.Errorf("Catalog() of %q = degraded %v, %q, %v; want %v, %q", row.status.State, s.Degraded, s.Advice, err, row.degraded, row.advice)
		}
	}
}
