package access_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/oci"
)

func pattern(t testing.TB, text string) access.Pattern {
	t.Helper()
	p, err := access.ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func policy(parts access.Parts) *access.Policy {
	parts.Prefix = "farm.internal"
	return access.NewPolicy(parts, slog.New(slog.DiscardHandler))
}

const all = access.Read | access.Write | access.Delete

func TestWithoutUsersLoopbackMayDoAllAndOthersMayRead(t *testing.T) {
	p := policy(access.Parts{})
	for _, authorization := range []access.Credential{"", basic("a", "b"), "Bearer x"} { // of whatever registry
		local, remote := access.Caller{Authorization: authorization, Local: true}, access.Caller{Authorization: authorization}
		for _, action := range []access.Action{access.Read, access.List, access.Write, access.Delete} {
			if err := p.Allow(t.Context(), local, "team/app", action); err != nil {
				t.Errorf("%v over loopback: %v", action, err)
			}
			err := p.Allow(t.Context(), remote, "team/app", action)
			reading := action == access.Read || action == access.List
			if (err == nil) != reading || p.Everywhere(t.Context(), remote, action) != reading {
				t.Errorf("%v from elsewhere: %v", action, err)
			}
			if !reading && (!errors.Is(err, oci.ErrDenied) || !strings.Contains(err.Error(), "registry.users_file")) {
				t.Errorf("%v from elsewhere: %v; want denied, and what to set", action, err)
			}
		}
		if err := p.Login(t.Context(), remote); err != nil {
			t.Errorf("Login where there is nobody to log in as: %v", err)
		}
	}
}

func TestWithUsersEverybodyReadsAndUsersWriteOnEveryAddress(t *testing.T) {
	p := policy(access.Parts{Users: openUsers(t, line(t, "alice", "a"))})
	for _, local := range []bool{true, false} {
		nobody, alice := access.Caller{Local: local}, access.Caller{Local: local, Authorization: basic("alice", "a")}
		for action, open := range map[access.Action]bool{access.Read: true, access.List: true, access.Write: false, access.Delete: false} {
			if err := p.Allow(t.Context(), nobody, "team/app", action); (err == nil) != open || !open && !errors.Is(err, oci.ErrUnauthorized) {
				t.Errorf("%v by nobody, local %v: %v", action, local, err)
			}
			if err := p.Allow(t.Context(), alice, "team/app", action); err != nil || !p.Everywhere(t.Context(), alice, action) {
				t.Errorf("%v by a user, local %v: %v", action, local, err)
			}
		}
	}
}

func TestWrongCredentialsAreRefusedWhereNoneAreNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // failed logins wait
		p := policy(access.Parts{Users: openUsers(t, line(t, "alice", "a"))})
		for _, authorization := range []access.Credential{basic("alice", "b"), "Bearer x"} {
			c := access.Caller{Authorization: authorization}
			if err := p.Allow(t.Context(), c, "team/app", access.Read); !errors.Is(err, oci.ErrUnauthorized) {
				t.Errorf("Allow by wrong credentials: %v; want unauthorized", err)
			}
			if p.Everywhere(t.Context(), c, access.Read) {
				t.Error("Everywhere by wrong credentials")
			}
			if err := p.Login(t.Context(), c); !errors.Is(err, oci.ErrUnauthorized) {
				t.Errorf("Login by wrong credentials: %v; want unauthorized", err)
			}
		}
	})
}

func TestAPasswordIsAskedForByTheFarmsOwnNameAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // failed logins wait
		p := policy(access.Parts{Users: openUsers(t, line(t, "alice", "a"))})
		for _, authorization := range []access.Credential{"", basic("alice", "b"), "Bearer x"} {
			for own, want := range map[bool]string{true: `Basic realm="farm.internal"`, false: ""} {
				c := access.Caller{Authorization: authorization, OwnName: own}
				for what, err := range map[string]error{"Allow": p.Allow(t.Context(), c, "team/app", access.Write), "Login": p.Login(t.Context(), c)} {
					unauthorized, ok := errors.AsType[*access.UnauthorizedError](err)
					if !ok || unauthorized.Challenge != want {
						t.Errorf("%s, own name %v: %#v; want challenge %q", what, own, err, want)
					}
					if !own && ok && !strings.Contains(unauthorized.Message, "farm.internal") {
						t.Errorf("%s by another name: %q; want it said which one to use", what, unauthorized.Message)
					}
				}
			}
		}
	})
}

func TestRulesSayWhoMayDoWhatWhere(t *testing.T) {
	users := openUsers(t, line(t, "alice", "a"), line(t, "bob", "b"), line(t, "anna", "c"))
	p := policy(access.Parts{Users: users, Rights: access.Rights{
		{Match: pattern(t, "team/*"), Who: []string{"alice"}, Allow: all},
		{Match: pattern(t, "team/*"), Who: []string{access.WhoAll}, Allow: access.Read},
		{Match: pattern(t, "public/app"), Who: []string{access.WhoAnonymous}, Allow: access.Read},
		{Match: pattern(t, "public/app"), Who: []string{"bob"}, Allow: access.Write},
		{Match: pattern(t, "closed/*")},
	}})
	nobody, alice, bob := access.Caller{Local: true}, from("alice", "a"), from("bob", "b")
	for _, c := range []struct {
		who  access.Caller
		path string
		may  access.Action
	}{
		{nobody, "team/app", 0},
		{alice, "team/app", all},
		{bob, "team/app", access.Read},
		{nobody, "public/app", access.Read},
		{bob, "public/app", access.Read | access.Write},
		{alice, "public/app", access.Read},
		{nobody, "closed/a", 0},
		{alice, "closed/a", 0},
		{nobody, "other", access.Read},
		{bob, "other", all},
		{bob, "team", all}, // is not below team
	} {
		for _, action := range []access.Action{access.Read, access.Write, access.Delete} {
			err := p.Allow(t.Context(), c.who, c.path, action)
			if (err == nil) != (c.may&action != 0) {
				t.Errorf("%v of %s: %v; want those: %v", action, c.path, err, c.may)
			}
			want := oci.ErrDenied
			if c.who.Authorization == "" {
				want = oci.ErrUnauthorized
			}
			if err != nil && !errors.Is(err, want) {
				t.Errorf("%v of %s: %v; want %v", action, c.path, err, want)
			}
		}
		if listed := p.Allow(t.Context(), c.who, c.path, access.List) == nil; listed != (c.may&access.Read != 0) {
			t.Errorf("List of %s: %v; want it as Read", c.path, listed)
		}
	}
	for who, c := range map[string]access.Caller{"nobody": nobody, "alice": alice} {
		if p.Everywhere(t.Context(), c, access.Read) {
			t.Errorf("%s may read everywhere, closed/* too", who)
		}
	}
}

func TestEverywhereIsNeverMoreThanAllowSays(t *testing.T) {
	users := openUsers(t, line(t, "alice", "a"))
	patterns := []string{"*", "team/*", "team/app"}
	whos := [][]string{nil, {"alice"}, {access.WhoAll}, {access.WhoAnonymous}, {"bob"}}
	allowed := []access.Action{0, access.Read, access.Write, all}
	var rules []access.Rule
	for _, text := range patterns {
		for _, who := range whos {
			for _, allow := range allowed {
				rules = append(rules, access.Rule{Match: pattern(t, text), Who: who, Allow: allow})
			}
		}
	}
	yes := 0
	for _, a := range rules {
		for _, b := range rules {
			p := policy(access.Parts{Users: users, Rights: access.Rights{a, b}})
			for _, c := range []access.Caller{{}, from("alice", "a")} {
				for _, action := range []access.Action{access.Read, access.Write, access.List} {
					if !p.Everywhere(t.Context(), c, action) {
						continue
					}
					yes++
					for _, path := range []string{"other", "team", "team/app", "team/app/x"} {
						if err := p.Allow(t.Context(), c, path, action); err != nil {
							t.Fatalf("rules %+v and %+v: %v everywhere, but of %s: %v", a, b, action, path, err)
						}
					}
				}
			}
		}
	}
	if yes == 0 {
		t.Error("Everywhere is never true")
	}
}

func TestATokenOfTheCatalogListsAllAndReadsNothing(t *testing.T) {
	s := newTokenService(t)
	p := withTokens(t, s.keysFile())
	c := bearer(s.token(grant("", nil, claims{"access": []any{map[string]any{"type": "registry", "name": "catalog", "actions": []string{"*"}}}})))
	if !p.Everywhere(t.Context(), c, access.List) || p.Everywhere(t.Context(), c, access.Read) || p.Allow(t.Context(), c, "a", access.Read) == nil {
		t.Error("a token of the catalog does not list everything, or reads something")
	}
}

func TestUsersAndTokensHoldBesideEachOther(t *testing.T) {
	s := newTokenService(t)
	p := policy(access.Parts{Users: openUsers(t, line(t, "alice", "a")), Tokens: openTokens(t, s.keysFile())})
	for _, c := range []access.Caller{from("alice", "a"), bearer(s.token(grant("team/app", []string{"push"})))} {
		if err := p.Allow(t.Context(), c, "team/app", access.Write|access.Read); err != nil {
			t.Errorf("Allow = %v; want it allowed by a password as by a token", err)
		}
	}
	err := p.Allow(t.Context(), access.Caller{OwnName: true}, "team/app", access.Write)
	wantChallenge(t, err, "Bearer ")
	if err == nil {
		t.Error("nobody may write")
	}
}
