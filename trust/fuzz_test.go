package trust

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// What anybody may send to a join door is read or refused, and what is read survives a round trip.
func FuzzQuestion(f *testing.F) {
	token := newToken(Fingerprint{1})
	for _, q := range []*trustpb.Question{
		joinQuestion(token, []byte("request")),
		{Kind: &trustpb.Question_Renewal_{Renewal: &trustpb.Question_Renewal{Request: make([]byte, maxRequest)}}},
		{Kind: &trustpb.Question_Look_{Look: &trustpb.Question_Look{}}},
		{},
	} {
		var b bytes.Buffer
		if err := writeMessage(&b, q); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := readQuestion(bytes.NewReader(raw))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := writeMessage(&b, q); err != nil {
			t.Fatalf("writeMessage of what was read = %v", err)
		}
		again, err := readQuestion(&b)
		if err != nil || !proto.Equal(q, again) {
			t.Errorf("read again = %v, %v; want %v", again, err, q)
		}
	})
}

// What the catalog gives is read or refused; what is made of it fits where it has to go.
func FuzzRecords(f *testing.F) {
	now := time.Now().UnixNano()
	for _, m := range []proto.Message{
		&trustpb.Book{
			Epoch: 7, Revoked: []*trustpb.Revocation{{Node: "a", At: now}, {Node: "b", At: now, Lifted: true}},
			Authorities: []*trustpb.Authority{{Certificate: []byte("c"), Key: []byte("k")}}, Rotation: &trustpb.Rotation{Wanted: 2, Begun: 1},
		},
		&trustpb.TokenRecord{Proof: make([]byte, 32), Uses: 3, Used: 1, LastNode: "a", LastKey: make([]byte, 32)},
		&trustpb.NodeRecord{KeySha256: make([]byte, 32), Joined: now},
		&trustpb.Copy{Nodes: []*trustpb.Copy_Node{{Id: "a", KeySha256: make([]byte, 32)}}},
		&trustpb.StateReply{Epoch: 1, Authorities: [][]byte{{1}}, GossipKeys: [][]byte{make([]byte, 32)}, Revoked: []*trustpb.Revocation{{Node: "a"}}},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := parseRecord(raw, checkBook); err == nil {
			var s State
			s.takeRevocations(b.GetRevoked())
			var again State
			again.takeRevocations(s.revocations())
			for id, at := range s.Revoked {
				if !again.Revoked[id].Equal(at) || !shutsOut(b, id) {
					t.Errorf("revocation of %q at %v is lost", id, at)
				}
			}
			for id := range s.Void {
				if _, ok := again.Void[id]; !ok && !shutsOut(b, id) {
					t.Errorf("void certificates of %q are lost", id)
				}
			}
		}
		if r, err := parseRecord(raw, checkTokenRecord); err == nil && (r.GetUsed() > r.GetUses() || infoOf("x", r).Uses < 1) {
			t.Errorf("a token of %d uses was used %d times", r.GetUses(), r.GetUsed())
		}
		_, _ = parseRecord(raw, checkNodeRecord)
		_, _ = parseRecord(raw, checkCopy)
		_, _ = parseKeys(raw)
		var reply trustpb.StateReply
		if proto.Unmarshal(raw, &reply) != nil {
			return
		}
		if s, err := stateIn(&reply); err == nil {
			if again, err := stateIn(replyOf(s)); err != nil || again.Epoch != s.Epoch || len(again.Revoked) != len(s.Revoked) {
				t.Errorf("state read again = %+v, %v; want %+v", again, err, s)
			}
		}
	})
}

// An answer that somebody has changed on the way is none.
func FuzzGrant(f *testing.F) {
	i, err := newIssuer(testFarm, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	s := &signer{newSealKey(), i}
	q := joinQuestion(newToken(i.fingerprint()), []byte("request"))
	good, err := s.grant(q, [][]byte{{1}}, State{Epoch: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.GetGrant(), good.GetSignature())
	f.Fuzz(func(t *testing.T, grant, signature []byte) {
		a := &trustpb.Answer{Status: trustpb.Status_STATUS_DONE, Grant: grant, Signature: signature}
		_, err := granted(a, q, [][]byte{i.certificate()})
		same := bytes.Equal(grant, good.GetGrant())
		if err == nil && !same || err != nil && same && bytes.Equal(signature, good.GetSignature()) {
			t.Errorf("granted = %v; the true grant: %v", err, same)
		}
	})
}
