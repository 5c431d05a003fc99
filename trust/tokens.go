package trust

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// Bounds of tokens.
const (
	defaultTTL  = time.Hour
	maxTTL      = 30 * 24 * time.Hour
	maxUses     = 100_000
	maxTokens   = 1000
	listedEvery = 250 * time.Millisecond
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
	if err != nil {
		return Token{}, TokenInfo{}, fmt.Errorf("create a token: %w", err)
	}
	return token, info, nil
}

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
		return compareBoth(x.Created.Compare(y.Created), strings.Compare(x.ID, y.ID))
	})
	return list, nil
}

func compareBoth(first, second int) int {
	if first != 0 {
		return first
	}
	return second
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

// A tokenList remembers what tokens there are, so that a flood of wrong ones costs the catalog nothing: it is read at most
// once in listedEvery, for all who ask meanwhile.
type tokenList struct {
	turn chan struct{} // taken by who reads the list

	mu    sync.Mutex
	began time.Time // when the last reading of the list did
	proof map[string][]byte
}

// find is the proof of a token; nil when there was none at some time after the call.
func (l *tokenList) find(ctx context.Context, p *Parts, id string) ([]byte, error) {
	if proof, _ := l.known(id); proof != nil {
		return proof, nil
	}
	asked := time.Now()
	if err := take(ctx, l.turn); err != nil {
		return nil, err
	}
	defer func() { <-l.turn }()
	proof, began := l.known(id)
	if proof != nil || began.After(asked) {
		return proof, nil
	}
	if err := pauseFor(ctx, listedEvery-time.Since(began)); err != nil {
		return nil, err
	}
	began = time.Now()
	entries, err := p.Ledger.List(ctx, tokensKey)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	proofs := make(map[string][]byte, len(entries))
	for _, e := range entries {
		if r, err := parseRecord(e.Value, checkTokenRecord); err == nil {
			proofs[strings.TrimPrefix(e.Key, tokensKey)] = r.GetProof()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began, l.proof = began, proofs
	return proofs[id], nil
}

func (l *tokenList) known(id string) (proof []byte, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proof[id], l.began
}

// letIn counts a use of the token for who asks, unless it was counted before, and binds the id of the node to its key. Of
// two with one id the first wins.
//
// The use is counted in the token's record, with who it was counted for; after that, the node's record is made. Who counts
// the next use makes the record of the one before first, if that one did not come so far: so each is counted once, and
// answers that get lost cost nothing.
func (t *Trust) letIn(ctx context.Context, l Ledger, token string, r request) error {
	if err := take(ctx, t.clerk.counts); err != nil {
		return err
	}
	defer func() { <-t.clerk.counts }()
	print := r.keyPrint()
	for {
		node, index, err := load(ctx, l, nodesKey+r.id(), checkNodeRecord)
		if err != nil {
			return err
		}
		if index != 0 && !bytes.Equal(node.GetKeySha256(), print[:]) {
			return ErrTaken
		}
		counted := index != 0 && node.GetToken() == token
		if err := countUse(ctx, l, token, r, counted); err != nil || counted {
			return err
		}
		err = bind(ctx, l, r.id(), print[:], token, index)
		if !errors.Is(err, ErrChanged) {
			return err
		}
	}
}

// countUse counts that the node uses the token; counted says that it is known to have been.
func countUse(ctx context.Context, l Ledger, token string, r request, counted bool) error {
	print := r.keyPrint()
	_, err := change(ctx, l, tokensKey+token, checkTokenRecord, func(rec *trustpb.TokenRecord, there bool) (verdict, error) {
		switch {
		case !there:
			return leave, ErrBadToken
		case time.Now().UnixNano() >= rec.GetExpires():
			return leave, ErrTokenExpired
		case counted || rec.GetLastNode() == r.id() && bytes.Equal(rec.GetLastKey(), print[:]):
			return leave, nil
		case rec.GetUsed() >= rec.GetUses():
			return leave, ErrTokenUsedUp
		}
		if last := rec.GetLastNode(); last != "" {
			if err := bind(ctx, l, last, rec.GetLastKey(), token, 0); err != nil && !errors.Is(err, ErrChanged) {
				return leave, err
			}
		}
		rec.Used++
		rec.LastNode, rec.LastKey = r.id(), print[:]
		return put, nil
	})
	return err
}

// forget takes a node's last uses of tokens out of their records, so that it cannot come back by them.
func (p *Parts) forget(ctx context.Context, node string) error {
	tokens, err := p.tokens(ctx)
	if err != nil {
		return err
	}
	for id, r := range tokens {
		if r.GetLastNode() != node {
			continue
		}
		_, err := change(ctx, p.Ledger, tokensKey+id, checkTokenRecord, func(r *trustpb.TokenRecord, there bool) (verdict, error) {
			if !there || r.GetLastNode() != node {
				return leave, nil
			}
			r.LastNode, r.LastKey = "", nil
			return put, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
