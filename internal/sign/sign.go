// Package sign signs HTTP requests in the form of Standard Webhooks
// (https://www.standardwebhooks.com): an HMAC of the request's id, its time and its
// body.
package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Header fields of Standard Webhooks.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp" // in Unix seconds
	HeaderSignature = "Webhook-Signature"
)

const secretPrefix = "whsec_"

// Key is the key that a secret stands for. Errors do not repeat it.
func Key(secret string) ([]byte, error) {
	b64, encoded := strings.CutPrefix(secret, secretPrefix)
	if !encoded {
		if secret == "" {
			return nil, errors.New("it is empty: make one by: openssl rand -base64 32")
		}
		return []byte(secret), nil
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

// Signer is given a body and makes a signature for each key.
type Signer struct {
	io.Writer
	macs []hash.Hash
}

// New is a Signer for a request of that id and time.
func New(keys [][]byte, id string, stamp int64) *Signer {
	s := &Signer{}
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

// Signatures is the value of the header field.
func (s *Signer) Signatures() string {
	var out []string
	for _, mac := range s.macs {
		out = append(out, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(out, " ")
}
