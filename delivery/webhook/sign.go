package webhook

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/internal/sign"
)

// What Verify may find wrong.
var (
	// ErrUnsigned: a header field of the signature is missing or malformed.
	ErrUnsigned = errors.New("webhook: the request is not signed")
	// ErrTimestamp: the request was signed too long ago, or in the future.
	ErrTimestamp = errors.New("webhook: the request's timestamp is too far from now")
	// ErrSignature: no signature was made by the secret.
	ErrSignature = errors.New("webhook: the signature does not match")
)

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
	key, err := sign.Key(secret)
	if err != nil {
		return fmt.Errorf("webhook: secret: %w", err)
	}
	id, signatures := h.Get(sign.HeaderID), strings.Fields(h.Get(sign.HeaderSignature))
	stamp, err := strconv.ParseInt(h.Get(sign.HeaderTimestamp), 10, 64)
	if err != nil || id == "" || len(signatures) == 0 {
		return ErrUnsigned
	}
	if tolerance == 0 {
		tolerance = 5 * time.Minute
	}
	if tolerance > 0 && now.Sub(time.Unix(stamp, 0)).Abs() > tolerance {
		return ErrTimestamp
	}
	s := sign.New([][]byte{key}, id, stamp)
	if _, err := io.Copy(s, body); err != nil {
		return fmt.Errorf("webhook: reading the request: %w", err)
	}
	want := []byte(s.Signatures())
	for _, got := range signatures {
		if hmac.Equal([]byte(got), want) {
			return nil
		}
	}
	return ErrSignature
}
