package webhook

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/internal/sign"
)

// The first vector is that of the Standard Webhooks libraries; both were
// computed by openssl dgst -sha256 -hmac and Python's hmac.
func TestKnownSignatures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secret, id string
		stamp      int64
		body, want string
	}{
		{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
			`{"test": 2432232314}`, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{"raw secret of some length", "01J", 1700000000, "body", "H8RNeAHc/AaakLWUq16gClbSdPgkz6+oLf3kT46rIyc="},
	} {
		key, err := sign.Key(c.secret)
		if err != nil {
			t.Fatal(err)
		}
		s := sign.New([][]byte{key}, c.id, c.stamp)
		if _, err := s.Write([]byte(c.body)); err != nil {
			t.Fatal(err)
		}
		if got := s.Signatures(); got != "v1,"+c.want {
			t.Errorf("signed %q, want v1,%s", got, c.want)
		}
	}
}

func TestVerifyTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	const id, stamp, body = "01J", 1700000000, "body"
	keys := [][]byte{[]byte("old"), []byte("new")}
	s := sign.New(keys, id, stamp)
	if _, err := s.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	signed := s.Signatures()
	header := func(id, stamp, signature string) http.Header {
		h := http.Header{}
		h.Set("webhook-id", id)
		h.Set("webhook-timestamp", stamp)
		h.Set("webhook-signature", signature)
		return h
	}
	good := header(id, "1700000000", signed)
	for _, c := range []struct {
		what      string
		secret    string
		h         http.Header
		body      string
		tolerance time.Duration
		after     time.Duration
		want      error
	}{
		{"the old secret", "old", good, body, 0, 0, nil},
		{"the new secret", "new", good, body, 0, 0, nil},
		{"another version before it", "new", header(id, "1700000000", "v2,x "+signed), body, 0, 0, nil},
		{"another secret", "other", good, body, 0, 0, ErrSignature},
		{"another body", "new", good, body + "x", 0, 0, ErrSignature},
		{"another id", "new", header("01K", "1700000000", signed), body, 0, 0, ErrSignature},
		{"another timestamp", "new", header(id, "1700000001", signed), body, 0, 0, ErrSignature},
		{"another version", "new", header(id, "1700000000", strings.ReplaceAll(signed, "v1,", "v1a,")), body, 0, 0, ErrSignature},
		{"at the tolerance", "new", good, body, 0, 5 * time.Minute, nil},
		{"past the tolerance", "new", good, body, 0, 5*time.Minute + time.Second, ErrTimestamp},
		{"from the future", "new", good, body, 0, -5*time.Minute - time.Second, ErrTimestamp},
		{"a wide tolerance", "new", good, body, time.Hour, time.Hour, nil},
		{"no tolerance", "new", good, body, -1, 1e6 * time.Hour, nil},
		{"no id", "new", header("", "1700000000", signed), body, 0, 0, ErrUnsigned},
		{"no timestamp", "new", header(id, "", signed), body, 0, 0, ErrUnsigned},
		{"a timestamp that is none", "new", header(id, "now", signed), body, 0, 0, ErrUnsigned},
		{"a timestamp out of this world", "new", header(id, "9223372036854775807", signed), body, 0, 0, ErrTimestamp},
		{"no signature", "new", header(id, "1700000000", " "), body, 0, 0, ErrUnsigned},
		{"nothing", "new", http.Header{}, body, 0, 0, ErrUnsigned},
	} {
		now := time.Unix(stamp, 0).Add(c.after)
		if err := verify(c.secret, c.h, strings.NewReader(c.body), c.tolerance, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	if err := Verify("", good, []byte(body), -1); err == nil {
		t.Error("an empty secret is no error")
	}
	if err := Verify("new", good, []byte(body), -1); err != nil {
		t.Error(err)
	}
}

func TestSecretsInBothForms(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]string{
		"whsec_AAECAw==": "\x00\x01\x02\x03",
		"whsec_AAECAw":   "\x00\x01\x02\x03",
		"AAECAw==":       "AAECAw==",
		" spaced ":       " spaced ",
	} {
		if key, err := sign.Key(secret); err != nil || string(key) != want {
			t.Errorf("%q is the key %q, %v, want %q", secret, key, err, want)
		}
	}
}
