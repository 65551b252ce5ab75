package main

import (
	"encoding"
	"testing"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/smtp"
)

func TestRecipientsAreComparedAsMailDoes(t *testing.T) {
	t.Parallel()
	var list []config.Known
	for _, s := range []string{"Bob@example.org", "bob@bücher.example", "@Lists.example.org", "@[192.0.2.1]", "grüße@xn--fa-hia.example"} {
		var r config.Known
		if err := encoding.TextUnmarshaler(&r).UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	known, err := recipientsOf(list)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"bob@example.org":             true,
		"BOB@EXAMPLE.ORG":             true,
		"bob@xn--bcher-kva.example":   true,
		"bob@BÜCHER.example":          true,
		"bob@bu\u0308cher.example":    true,
		`"b\ob"@bücher.example`:       true,
		"GRÜße@faß.example":           true,
		"gru\u0308ße@faß.example":     true,
		"grüße@fass.example":          false,
		"grusse@faß.example":          false,
		"any@lists.example.org":       true,
		"any@[192.0.2.1]":             true,
		"alice@example.org":           false,
		"alice@xn--bcher-kva.example": false,
		"bob@sub.example.org":         false,
		"bob@elsewhere.example":       false,
	} {
		if got := known(t.Context(), smtp.ParsePath(address)); (got == nil) != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if all, err := recipientsOf(nil); all != nil || err != nil {
		t.Error("without a list somebody is unknown")
	}
}
