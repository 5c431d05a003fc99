package catalog

import "github.com/google/btree"

// treeDegree makes nodes of up to 63 items: few enough that a change copies little, many enough that a tree weighs
// little more than its items.
const treeDegree = 32

// A tree is an ordered set of items that is copied by assignment: a copy that is changed first makes a copy of the
// nodes on the way to the change, and of nothing else. A tree that somebody else may read has to be sealed; from then
// on it never changes, and any number of goroutines may read it.
type tree[T any] struct {
	items *btree.BTreeG[T]
	own   bool // nobody else has items
}

func newTree[T any](less func(a, b T) bool) tree[T] {
	return tree[T]{btree.NewG(treeDegree, less), true}
}

func (t *tree[T]) seal() { t.own = false }

func (t *tree[T]) put(item T) {
	t.writable().ReplaceOrInsert(item)
}

// remove takes away the item that is equal to key, if any.
func (t *tree[T]) remove(key T) (T, bool) {
	if !t.items.Has(key) {
		var none T
		return none, false
	}
	return t.writable().Delete(key)
}

func (t *tree[T]) writable() *btree.BTreeG[T] {
	if !t.own {
		t.items, t.own = t.items.Clone(), true
	}
	return t.items
}

func (t tree[T]) get(key T) (T, bool) { return t.items.Get(key) }

func (t tree[T]) len() int { return t.items.Len() }

// from yields the items from key on in order.
func (t tree[T]) from(key T) func(yield func(T) bool) {
	return func(yield func(T) bool) { t.items.AscendGreaterOrEqual(key, yield) }
}

// all yields all items in order.
func (t tree[T]) all() func(yield func(T) bool) {
	return func(yield func(T) bool) { t.items.Ascend(yield) }
}

// first is the item at key or the one that follows.
func (t tree[T]) first(key T) (item T, ok bool) {
	for item := range t.from(key) {
		return item, true
	}
	return item, false
}
