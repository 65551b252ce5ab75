package milter

import (
	"crypto/tls"
	"strconv"
	"strings"

	gomilter "github.com/d--j/go-milter"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

// unasked is the macros that a filter is given at each stage when it does not ask
// for others.
var unasked = map[gomilter.MacroStage][]gomilter.MacroName{
	gomilter.StageConnect: {"j", "v", "_", "{daemon_name}", "{client_addr}", "{client_name}", "{client_port}"},
	gomilter.StageHelo:    {"{tls_version}", "{cipher}", "{cipher_bits}"},
	gomilter.StageMail:    {"i", "{mail_addr}", "{mail_host}", "{mail_mailer}"},
	gomilter.StageRcpt:    {"i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"},
	gomilter.StageData:    {"i"},
	gomilter.StageEOH:     {"i"},
	gomilter.StageEOM:     {"i"},
}

// macros is what we know under the names that filters know it by. What we do not
// know is not there: nobody authenticates here.
type macros map[gomilter.MacroName]string

// unknown is the client's name: no reverse lookup is made.
const unknown = "unknown"

func macrosOf(t *policy.Transaction) macros {
	m := macros{"j": t.Hostname, "v": "Incoming", "{daemon_name}": t.Listener, "{client_name}": unknown, "_": unknown}
	if addr := t.Peer.Addr().Unmap(); addr.IsValid() {
		m["{client_addr}"], m["{client_port}"] = addr.String(), strconv.Itoa(int(t.Peer.Port()))
		m["_"] = unknown + " [" + addr.String() + "]"
	}
	if t.TLS != nil {
		suite := tls.CipherSuiteName(t.TLS.CipherSuite)
		m["{tls_version}"] = strings.Replace(tls.VersionName(t.TLS.Version), " ", "v", 1) // TLSv1.3
		m["{cipher}"], m["{cipher_bits}"] = suite, bits(suite)
	}
	m.path("mail", t.From)
	if t.ID != "" {
		m["i"] = t.ID
	}
	return m
}

// path sets the macros of a reverse-path ("mail") or forward-path ("rcpt").
func (m macros) path(kind string, p smtp.Path) {
	m["{"+kind+"_addr}"], m["{"+kind+"_host}"], m["{"+kind+"_mailer}"] = p.String(), p.Domain, "esmtp"
}

// bits is the length of a cipher suite's key.
func bits(suite string) string {
	switch {
	case strings.Contains(suite, "3DES"):
		return "168"
	case strings.Contains(suite, "128"):
		return "128"
	}
	return "256"
}

// Get implements milter.Macros.
func (m macros) Get(name gomilter.MacroName) string { return m[canonical(name)] }

// GetEx implements milter.Macros.
func (m macros) GetEx(name gomilter.MacroName) (string, bool) {
	v, ok := m[canonical(name)]
	return v, ok
}

// canonical puts a name of several letters in braces, and one of a single letter
// not: filters ask in either form.
func canonical(name string) string {
	bare := strings.TrimSuffix(strings.TrimPrefix(name, "{"), "}")
	if len(bare) == 1 {
		return bare
	}
	return "{" + bare + "}"
}
