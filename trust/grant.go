package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// grantMark goes before a grant that is signed: it begins no certificate, which the same key signs.
const grantMark = "pullonce grant\x00"

var errUnvouched = errors.New("the farm's authority does not vouch for the answer")

// grant is an answer that only the authority can have made, whoever passes it on.
func (s *signer) grant(q *trustpb.Question, chain [][]byte, state State) (*trustpb.Answer, error) {
	asked, err := printOf(q)
	if err != nil {
		return nil, err
	}
	raw, err := proto.Marshal(&trustpb.Grant{AskedSha256: asked, Chain: chain, State: replyOf(state)})
	if err != nil {
		return nil, fmt.Errorf("encode an answer: %w", err)
	}
	sum := grantSum(raw)
	signature, err := ecdsa.SignASN1(rand.Reader, s.issuer.key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("sign an answer: %w", err)
	}
	return &trustpb.Answer{Status: trustpb.Status_STATUS_DONE, Grant: raw, Signature: signature}, nil
}

// granted is the grant in the answer to q, which one of the authorities, DER, has signed.
func granted(a *trustpb.Answer, q *trustpb.Question, authorities [][]byte) (*trustpb.Grant, error) {
	if !vouched(a, authorities) {
		return nil, errUnvouched
	}
	g := new(trustpb.Grant)
	if err := proto.Unmarshal(a.GetGrant(), g); err != nil {
		return nil, errors.New("the answer is garbled")
	}
	asked, err := printOf(q)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(asked, g.GetAskedSha256()) {
		return nil, errors.New("the answer is to another question")
	}
	return g, nil
}

// vouched tells whether one of the authorities has signed the answer.
func vouched(a *trustpb.Answer, authorities [][]byte) bool {
	sum := grantSum(a.GetGrant())
	for _, der := range authorities {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if key, ok := cert.PublicKey.(*ecdsa.PublicKey); ok && ecdsa.VerifyASN1(key, sum[:], a.GetSignature()) {
			return true
		}
	}
	return false
}

func grantSum(raw []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(grantMark), raw...))
}

// printOf names a question.
func printOf(q *trustpb.Question) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encode a question: %w", err)
	}
	sum := sha256.Sum256(raw)
	return sum[:], nil
}
