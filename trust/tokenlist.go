package trust

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// listedEvery is how often a tokenList reads the catalog at most.
const listedEvery = 250 * time.Millisecond

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
