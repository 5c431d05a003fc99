package swarm

// An order keeps the pieces that may be asked for in buckets by how many
// neighbours have them. Every change moves one piece in constant time.
type order struct {
	buckets [MaxNeighbours + 1][]int32
	at      []int32 // index of each piece in its bucket
	in      []int8  // bucket of each piece, -1 when it is in none
	count   int
}

func newOrder(pieces int) *order {
	o := &order{at: make([]int32, pieces), in: make([]int8, pieces)}
	for i := range o.in {
		o.in[i] = -1
	}
	return o
}

func (o *order) has(piece int32) bool { return o.in[piece] >= 0 }

func (o *order) add(piece int32, rarity int) {
	o.at[piece] = int32(len(o.buckets[rarity]))
	o.in[piece] = int8(rarity)
	o.buckets[rarity] = append(o.buckets[rarity], piece)
	o.count++
}

func (o *order) remove(piece int32) {
	b := o.buckets[o.in[piece]]
	last := b[len(b)-1]
	b[o.at[piece]] = last
	o.at[last] = o.at[piece]
	o.buckets[o.in[piece]] = b[:len(b)-1]
	o.in[piece] = -1
	o.count--
}

func (o *order) move(piece int32, rarity int) {
	if int(o.in[piece]) == rarity {
		return
	}
	o.remove(piece)
	o.add(piece, rarity)
}
