package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Header fields of Standard Webhooks.
const (
	headerWebhookID = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

const secretPrefix = "whsec_"

// What Verify may find wrong.
var (
	// ErrUnsigned: a header field of the signature is missing or malformed.
	ErrUnsigned = errors.New("webhook: the request is not signed")
	// ErrTimestamp: the request was signed too long ago, or in the future.
	ErrTimestamp = errors.New("webhook: the request's timestamp is too far from now")
	// ErrSignature: no signature was made by the secret.
	ErrSignature = errors.New("webhook: the signature does not match")
)

// decodeSecret is the key that a secret stands for. Errors do not repeat it.
func decodeSecret(s string) ([]byte, error) {
	b64, encoded := strings.CutPrefix(s, secretPrefix)
	if !encoded {
		if s == "" {
			return nil, errors.New("it is empty: make one by: openssl rand -base64 32")
		}
		return []byte(s), nil
	}
	key, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		key, err = base64.RawStdEncoding.DecodeString(b64)
	}
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("what follows %q is not base64: make one by: echo %s$(openssl rand -base64 32)",
			secretPrefix, secretPrefix)
	}
	return key, nil
}

// signer is given a body and makes a signature for each key.
type signer struct {
	io.Writer
	macs []hash.Hash
}

func newSigner(keys [][]byte, id string, stamp int64) *signer {
	s := &signer{}
	writers := make([]io.Writer, len(keys))
	for i, key := range keys {
		mac := hmac.New(sha256.New, key)
		s.macs = append(s.macs, mac)
		writers[i] = mac
	}
	s.Writer = io.MultiWriter(writers...)
	fmt.Fprintf(s, "%s.%d.", id, stamp) // a hash never fails
	return s
}

// signatures is the value of the header field.
func (s *signer) signatures() string {
	var out []string
	for _, mac := range s.macs {
		out = append(out, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(out, " ")
}

// Verify is for receivers: it returns nil when body came with a signature made
// by secret, not longer than tolerance ago nor that far in the future. tolerance
// 0 is 5 minutes, negative is no limit. secret is what Config.Secrets holds. The
// error is ErrUnsigned, ErrTimestamp or ErrSignature, or says what is wrong with
// secret.
func Verify(secret string, h http.Header, body []byte, tolerance time.Duration) error {
	return VerifyReader(secret, h, bytes.NewReader(body), tolerance)
}

// VerifyReader is Verify for a body that is not in memory. It reads body to its
// end, unless the header fields alone are reason to fail. It may also return an
// error of body's.
func VerifyReader(secret string, h http.Header, body io.Reader, tolerance time.Duration) error {
	return verify(secret, h, body, tolerance, time.Now())
}

func verify(secret string, h http.Header, body io.Reader, tolerance time.Duration, now time.Time) error {
	key, err := decodeSecret(secret)
	if err != nil {
		return fmt.Errorf("webhook: secret: %w", err)
	}
	id, signatures := h.Get(headerWebhookID), strings.Fields(h.Get(headerSignature))
	stamp, err := strconv.ParseInt(h.Get(headerTimestamp), 10, 64)
	if err != nil || id == "" || len(signatures) == 0 {
		return ErrUnsigned
	}
	if tolerance == 0 {
		tolerance = 5 * time.Minute
	}
	if tolerance > 0 && now.Sub(time.Unix(stamp, 0)).Abs() > tolerance {
		return ErrTimestamp
	}
	s := newSigner([][]byte{key}, id, stamp)
	if _, err := io.Copy(s, body); err != nil {
		return fmt.Errorf("webhook: reading the request: %w", err)
	}
	want := []byte(s.signatures())
	for _, got := range signatures {
		if hmac.Equal([]byte(got), want) {
			return nil
		}
	}
	return ErrSignature
}
