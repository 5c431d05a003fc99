package transfer

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

func TestAnOutboxSendsInOrderAndEndsWhenItIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		var sent []any
		ended := make(chan error, 1)
		go func() {
			ended <- o.pump(t.Context(), func(m any) error {
				sent = append(sent, m)
				return nil
			})
		}()
		for i := range 3 {
			o.put(i)
			synctest.Wait()
		}
		o.put(3)
		o.put(4)
		synctest.Wait()
		o.close()
		o.close()
		if err := <-ended; !errors.Is(err, errOver) {
			t.Errorf("pump = %v; want errOver", err)
		}
		if want := []any{0, 1, 2, 3, 4}; !slices.Equal(sent, want) {
			t.Errorf("sent %v; want %v", sent, want)
		}
	})
}

func TestAnOutboxThatNobodyEmptiesIsClosed(t *testing.T) {
	o := newOutbox()
	for i := range maxQueue + 1 {
		select {
		case <-o.over:
			t.Fatalf("closed after %d messages; want %d", i, maxQueue+1)
		default:
		}
		o.put(i)
	}
	select {
	case <-o.over:
	default:
		t.Errorf("open after %d messages that nobody took; want it closed", maxQueue+1)
	}
}
