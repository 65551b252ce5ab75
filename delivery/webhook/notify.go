package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/incoming-mx/incoming/queue"
)

// Notify posts that there is a message, without its text: the envelope as
// application/json, with one key more, which says where the text is. It is signed,
// and its answer is a verdict, as of Deliver; the format does not matter. It is an
// error when the key is one of the envelope's, or about cannot be JSON.
func (a *Adapter) Notify(ctx context.Context, m *queue.Message, key string, about any) error {
	p, err := notice(m, key, about)
	if err != nil {
		return a.named(err)
	}
	return a.named(a.send(ctx, m, p))
}

func notice(m *queue.Message, key string, about any) (*payload, error) {
	fingerprint, err := m.Fingerprint()
	if err != nil {
		return nil, err
	}
	envelope, err := toJSONText(newEnvelope(m, fingerprint))
	if err != nil {
		return nil, err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal([]byte(envelope), &keys); err != nil {
		return nil, err
	}
	if _, taken := keys[key]; taken {
		return nil, fmt.Errorf("the envelope has a key %s of its own", key)
	}
	if keys[key], err = json.Marshal(about); err != nil {
		return nil, err
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	return &payload{id: headerID(m.ID), fingerprint: fingerprint, contentType: "application/json", header: http.Header{},
		segments: []segment{literal(string(text))}, size: int64(len(text))}, nil
}
