package trust

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// Bounds of tokens.
const (
	defaultTTL = time.Hour
	maxTTL     = 30 * 24 * time.Hour
	maxUses    = 100_000
	maxTokens  = 1000
)

// A TokenInfo is what the farm knows of a token. The token itself nobody can tell from it.
type TokenInfo struct {
	ID               string
	Created, Expires time.Time
	Uses, Used       int // how often it may be used, and was
}

func infoOf(id string, r *trustpb.TokenRecord) TokenInfo {
	return TokenInfo{
		ID: id, Created: time.Unix(0, r.GetCreated()), Expires: time.Unix(0, r.GetExpires()),
		Uses: int(r.GetUses()), Used: int(r.GetUsed()),
	}
}

// CreateToken makes a token that lets uses nodes join within ttl. 0 stands for one hour and one use; the limits are 30 days
// and 100,000. Its text is the only place where it is whole: the farm keeps what it takes to know it again.
func (t *Trust) CreateToken(ctx context.Context, ttl time.Duration, uses int) (Token, TokenInfo, error) {
	setDefault(&ttl, defaultTTL)
	setDefault(&uses, 1)
	if ttl < time.Second || ttl > maxTTL || uses < 1 || uses > maxUses {
		return Token{}, TokenInfo{}, fmt.Errorf("create a token for %v and %d uses: want 1s to %v and 1 to %d", ttl, uses, maxTTL, maxUses)
	}
	token, info, err := t.createToken(ctx, ttl, uses)
	for start := time.Now(); errors.Is(err, errNoBook) && time.Since(start) < foundingTime && pauseFor(ctx, foundingLook) == nil; {
		t.clerk.look() // the farm was started a moment ago
		token, info, err = t.createToken(ctx, ttl, uses)
	}
	if err != nil {
		return Token{}, TokenInfo{}, fmt.Errorf("create a token: %w", err)
	}
	return token, info, nil
}

// foundingTime is how long the first token of a farm waits for the farm's trust to be written down, foundingLook how often
// it looks.
const foundingTime, foundingLook = 5 * time.Second, 50 * time.Millisecond

func (t *Trust) createToken(ctx context.Context, ttl time.Duration, uses int) (Token, TokenInfo, error) {
	p, err := t.partsOfAuto()
	if err != nil {
		return Token{}, TokenInfo{}, err
	}
	there, err := p.tokens(ctx)
	if err != nil {
		return Token{}, TokenInfo{}, err
	}
	if len(there) >= maxTokens {
		return Token{}, TokenInfo{}, fmt.Errorf("there are %d tokens: revoke some", len(there))
	}
	book, index, err := p.readBook(ctx)
	if err != nil {
		return Token{}, TokenInfo{}, err
	}
	if index == 0 || len(book.GetAuthorities()) == 0 {
		return Token{}, TokenInfo{}, errNoBook
	}
	token := newToken(fingerprintOf(book.GetAuthorities()[0].GetCertificate()))
	proof, now := token.proof(), time.Now()
	record, err := change(ctx, p.Ledger, tokensKey+token.ID(), checkTokenRecord, func(r *trustpb.TokenRecord, there bool) (verdict, error) {
		if there {
			return leave, nil // it was written, and the answer got lost
		}
		r.Proof, r.Uses = proof[:], uint32(uses)
		r.Created, r.Expires = now.UnixNano(), now.Add(ttl).UnixNano()
		return put, nil
	})
	if err != nil {
		return Token{}, TokenInfo{}, err
	}
	return token, infoOf(token.ID(), record), nil
}

var errNoTokens = errors.New("this farm's certificates come from the site's files: there are no tokens")

// partsOfAuto are the parts in a farm that has an authority of its own.
func (t *Trust) partsOfAuto() (*Parts, error) {
	if t.Mode() != Auto {
		return nil, errNoTokens
	}
	return t.parts()
}

// Tokens are the tokens that have not run out, the oldest first.
func (t *Trust) Tokens(ctx context.Context) ([]TokenInfo, error) {
	p, err := t.partsOfAuto()
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	records, err := p.tokens(ctx)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	list := make([]TokenInfo, 0, len(records))
	for id, r := range records {
		list = append(list, infoOf(id, r))
	}
	slices.SortFunc(list, func(x, y TokenInfo) int {
		return cmp.Or(x.Created.Compare(y.Created), strings.Compare(x.ID, y.ID))
	})
	return list, nil
}

// ErrNoToken says that there is no token of that id.
var ErrNoToken = errors.New("there is no such token")

// DropToken makes the token with that id useless from now on. Nodes that have joined with it stay. The error is
// ErrNoToken when there is none.
func (t *Trust) DropToken(ctx context.Context, id string) error {
	p, err := t.partsOfAuto()
	if err != nil {
		return fmt.Errorf("drop token: %w", err)
	}
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 8 {
		return fmt.Errorf("drop token %.40q: %w", id, ErrNoToken)
	}
	_, err = change(ctx, p.Ledger, tokensKey+id, anyRecord, func(_ *trustpb.TokenRecord, there bool) (verdict, error) {
		if !there {
			return leave, ErrNoToken
		}
		return remove, nil
	})
	if err != nil {
		return fmt.Errorf("drop token %s: %w", id, err)
	}
	return nil
}

// anyRecord lets records through that are only to be taken away.
func anyRecord(*trustpb.TokenRecord) error { return nil }

// tokens are those that have not run out, by their ids. The others are taken away.
func (p *Parts) tokens(ctx context.Context) (map[string]*trustpb.TokenRecord, error) {
	entries, err := p.Ledger.List(ctx, tokensKey)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	all, now := make(map[string]*trustpb.TokenRecord, len(entries)), time.Now().UnixNano()
	for _, e := range entries {
		r, err := parseRecord(e.Value, checkTokenRecord)
		if err != nil {
			continue // of a later release, perhaps
		}
		if now < r.GetExpires() {
			all[strings.TrimPrefix(e.Key, tokensKey)] = r
			continue
		}
		if _, err := p.Ledger.Swap(ctx, e.Key, nil, e.Index); err != nil && !errors.Is(err, ErrChanged) {
			return nil, fmt.Errorf("take away an old token: %w", err)
		}
	}
	return all, nil
}
