package transfer

import (
	"context"

	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/internal/bulk"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// Attach makes a gRPC server, which must have ServerOptions, serve the engine to peers.
func (e *Engine) Attach(s *grpc.Server) {
	desc := transferpb.Transfer_ServiceDesc
	desc.Methods = append([]grpc.MethodDesc(nil), desc.Methods...)
	for i := range desc.Methods {
		switch desc.Methods[i].MethodName {
		case "Piece":
			desc.Methods[i].Handler = pieceHandler
		case "Range":
			desc.Methods[i].Handler = rangeHandler
		case "Push":
			desc.Methods[i].Handler = pushHandler
		}
	}
	s.RegisterService(&desc, e)
}

// pieceHandler stands in for the generated handler, so that the reply's bytes are not copied into a proto message.
//
//nolint:revive // gRPC's order of parameters
func pieceHandler(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	q := &transferpb.PieceRequest{}
	if err := decode(q); err != nil {
		return nil, err
	}
	return srv.(*Engine).piece(ctx, q)
}

// rangeHandler stands in for the generated handler as pieceHandler does.
//
//nolint:revive // gRPC's order of parameters
func rangeHandler(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	q := &transferpb.RangeRequest{}
	if err := decode(q); err != nil {
		return nil, err
	}
	return srv.(*Engine).answerRange(ctx, q), nil
}

// pushHandler stands in for the generated handler, so that the request's bytes are not copied out of gRPC's buffers.
//
//nolint:revive // gRPC's order of parameters
func pushHandler(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	b := &bulk.Message{Head: &transferpb.PushRequest{}}
	if err := decode(b); err != nil {
		return nil, err
	}
	return srv.(*Engine).pushed(ctx, b)
}
