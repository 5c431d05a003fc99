package sim

import "time"

type eventKind uint8

const (
	evUplink  eventKind = iota // a: host whose uplink is free
	evWake                     // a: host that wanted to be woken
	evMessage                  // b: message that arrives
	evPiece                    // b: flow whose last quantum arrives
	evRelease                  // b: hold that ends
	evStart                    // a: host that starts
	evSweep                    // a: dead host that the others now give up
	evTakeover
)

type event struct {
	at   time.Duration
	seq  uint32
	b    int32
	a    int32
	kind eventKind
}

// queue is a heap with four children a node; equal times keep their order.
type queue struct {
	e   []event
	seq uint32
}

func before(x, y *event) bool {
	return x.at < y.at || x.at == y.at && int32(x.seq-y.seq) < 0
}

func (q *queue) push(e event) {
	q.seq++
	e.seq = q.seq
	q.e = append(q.e, e)
	i := len(q.e) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !before(&e, &q.e[up]) {
			break
		}
		q.e[i] = q.e[up]
		i = up
	}
	q.e[i] = e
}

func (q *queue) pop() event {
	top := q.e[0]
	n := len(q.e) - 1
	e := q.e[n]
	q.e = q.e[:n]
	if n == 0 {
		return top
	}
	i := 0
	for {
		least := 4*i + 1
		if least >= n {
			break
		}
		for c := least + 1; c < min(4*i+5, n); c++ {
			if before(&q.e[c], &q.e[least]) {
				least = c
			}
		}
		if !before(&q.e[least], &e) {
			break
		}
		q.e[i] = q.e[least]
		i = least
	}
	q.e[i] = e
	return top
}
