package node

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
)

// flights lets callers who ask the same thing at once share one answer. A caller that gives up leaves; the question
// goes on for the others, and for the cache.
type flights struct {
	group singleflight.Group
	limit time.Duration // of one question
}

// do asks once for all callers with the same key. ask gets a context of its own.
func (f *flights) do(ctx context.Context, key string, ask func(context.Context) (any, error)) (any, error) {
	result := f.group.DoChan(key, func() (any, error) {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.limit)
		defer cancel()
		return ask(own)
	})
	select {
	case r := <-result:
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
