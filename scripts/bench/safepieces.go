package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// pieces has the holder send all pieces of the blob, over the connection that nodes use, and throws them away.
func (n *safeNode) pieces(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := n.engine.Conn(n.cfg.Holder.Peer)
	if err != nil {
		return err
	}
	list, err := n.neighbour(ctx, transferpb.NewTransferClient(conn))
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(piecesAtOnce)
	for i := range list.Count() {
		g.Go(func() error { return n.piece(ctx, conn, list, i) })
	}
	return g.Wait()
}

// piecesAtOnce is how many pieces a node asks another for at once.
const piecesAtOnce = 8

// neighbour makes the node a neighbour of the holder until ctx ends, and returns the list that the pieces go by.
func (n *safeNode) neighbour(ctx context.Context, c transferpb.TransferClient) (*piece.List, error) {
	list := piece.Issue(n.digest, n.cfg.Size, piece.SizeFor(n.cfg.Size), n.cfg.Node) // who has all goes by any list
	stream, err := c.Exchange(ctx)
	if err != nil {
		return nil, err
	}
	id, h := list.ID(), list.Header()
	header := &transferpb.ListHeader{
		Digest: n.cfg.Digest, Size: h.Size, PieceSize: h.PieceSize, Issuer: h.Issuer, Nonce: h.Nonce[:],
	}
	hello := &transferpb.Haves{
		Digest: n.cfg.Digest, List: id[:], Header: header, Bitmap: piece.NewBitmap(list.Count()).Bytes(),
		Node: &transferpb.Node{Id: n.cfg.Node, Address: n.peer.Addr().String()},
	}
	if err := stream.Send(hello); err != nil {
		return nil, err
	}
	_, err = stream.Recv()
	return list, err
}

// mostAbsent is how often the holder may have left the swarm before a piece comes: it does so after a moment in which it
// sends nothing.
const mostAbsent = 5

// piece asks for a piece until the holder has a place for it.
func (n *safeNode) piece(ctx context.Context, conn grpc.ClientConnInterface, list *piece.List, i int) error {
	id := list.ID()
	q := &transferpb.PieceRequest{Digest: n.cfg.Digest, List: id[:], Piece: int32(i), Node: n.cfg.Node, Lone: true}
	for absent := 0; ; {
		head := &transferpb.PieceReply{}
		reply := &bulk.Message{Head: head}
		if err := conn.Invoke(ctx, transferpb.Transfer_Piece_FullMethodName, q, reply); err != nil {
			return err
		}
		got := int64(reply.Data.Len())
		reply.Free()
		_, want := list.Bounds(i)
		switch {
		case head.GetStatus() == transferpb.PieceReply_STATUS_BUSY:
			time.Sleep(time.Millisecond)
		case head.GetStatus() == transferpb.PieceReply_STATUS_ABSENT && absent < mostAbsent:
			absent++
			if _, err := n.neighbour(ctx, transferpb.NewTransferClient(conn)); err != nil {
				return err
			}
		case head.GetStatus() != transferpb.PieceReply_STATUS_OK || got != want:
			return fmt.Errorf("piece %d: %v, %d bytes; want %d", i, head.GetStatus(), got, want)
		default:
			return nil
		}
	}
}
