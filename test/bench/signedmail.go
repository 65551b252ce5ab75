package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/miekg/dns"
)

// signedMail is a message of 4 KB that passes all that mailauth looks at, and two
// servers of the DNS that say so.
type signedMail struct {
	file                  string // for smtp-source -F
	remembered, forgotten string // the servers' addresses, by whether their answers may be remembered
	servers               []*dns.Server
}

func newSignedMail(dir string) (m *signedMail, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048) // as most mail is signed
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	head := "From: Sender <sender@example.org>\r\nTo: rcpt@example.org\r\nSubject: signed\r\nDate: Sat, 01 Aug 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n"
	line := strings.Repeat("x", 76) + "\r\n"
	text := head + strings.Repeat(line, (small-500-len(head))/len(line))
	var signed strings.Builder
	err = dkim.Sign(&signed, strings.NewReader(text), &dkim.SignOptions{Domain: "example.org", Selector: "s", Signer: private, Hash: crypto.SHA256,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed})
	if err != nil {
		return nil, err
	}
	m = &signedMail{file: filepath.Join(dir, "signed.eml")}
	if err := os.WriteFile(m.file, []byte(strings.ReplaceAll(signed.String(), "\r\n", "\n")), 0o644); err != nil {
		return nil, err
	}
	key := base64.StdEncoding.EncodeToString(public)
	records := []string{
		`example.org. %d IN TXT "v=spf1 ip4:127.0.0.1 -all"`,
		`client.example.org. %d IN TXT "v=spf1 ip4:127.0.0.1 -all"`,
		`s._domainkey.example.org. %d IN TXT "v=DKIM1; p=` + key[:200] + `" "` + key[200:] + `"`,
		`_dmarc.example.org. %d IN TXT "v=DMARC1; p=reject"`,
		`1.0.0.127.in-addr.arpa. %d IN PTR client.example.org.`,
		`client.example.org. %d IN A 127.0.0.1`,
	}
	if m.remembered, err = m.serve(records, 300); err == nil {
		m.forgotten, err = m.serve(records, 0)
	}
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// serve answers from records, which may be remembered for ttl seconds.
func (m *signedMail) serve(records []string, ttl int) (addr string, err error) {
	byName := make(map[dns.Question][]dns.RR)
	for _, r := range records {
		rr, err := dns.NewRR(fmt.Sprintf(r, ttl))
		if err != nil {
			return "", err
		}
		q := dns.Question{Name: rr.Header().Name, Qtype: rr.Header().Rrtype, Qclass: dns.ClassINET}
		byName[q] = append(byName[q], rr)
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, asked *dns.Msg) {
		answer := new(dns.Msg).SetReply(asked)
		q := asked.Question[0]
		q.Name = strings.ToLower(q.Name)
		answer.Answer = byName[q]
		_ = w.WriteMsg(answer) // a client that left asks again
	})}
	m.servers = append(m.servers, server)
	go func() { _ = server.ActivateAndServe() }() // ends with Shutdown
	<-started
	return conn.LocalAddr().String(), nil
}

func (m *signedMail) close() error {
	var err error
	for _, s := range m.servers {
		err = errors.Join(err, s.Shutdown())
	}
	return err
}
