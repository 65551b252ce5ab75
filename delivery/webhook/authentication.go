package webhook

import (
	"encoding/json"
	"strings"

	"github.com/incoming-mx/incoming/queue"
)

// authentication is what policy/mailauth found out about a message's sender, as
// far as providers tell it too. "" is: nobody looked. The results are those of RFC
// 8601 §2.7.
type authentication struct {
	SPF   string
	DKIM  []dkimResult
	DMARC string
	Asked string // what the domain's policy asks for: none, quarantine, reject
}

type dkimResult struct {
	Domain string `json:"domain"`
	Result string `json:"result"`
}

// authenticationFact is where policy/mailauth leaves its results.
const authenticationFact = "mailauth.results"

// readAuthentication is the zero one when there is no such fact, or it is not
// what it should be.
func readAuthentication(facts queue.Facts) authentication {
	var f struct {
		SPF []struct {
			Result string `json:"result"`
		} `json:"spf"`
		DKIM  []dkimResult `json:"dkim"`
		DMARC struct {
			Result string `json:"result"`
			Asked  string `json:"asked"`
		} `json:"dmarc"`
	}
	if json.Unmarshal(facts[authenticationFact], &f) != nil {
		return authentication{}
	}
	a := authentication{DKIM: f.DKIM, DMARC: f.DMARC.Result, Asked: f.DMARC.Asked}
	if len(f.SPF) > 0 {
		a.SPF = f.SPF[0].Result // the identity that counts
	}
	return a
}

// looked reports whether anybody did.
func (a authentication) looked() bool { return a.SPF != "" }

// dkim is the best of the signatures: one that passes is enough.
func (a authentication) dkim() string {
	best := ""
	for _, d := range a.DKIM {
		if d.Result == "pass" {
			return d.Result
		}
		if best == "" {
			best = d.Result
		}
	}
	if best == "" && a.looked() {
		return "none"
	}
	return best
}

// sendGridDKIM is SendGrid's own notation, which is not quite JSON.
func (a authentication) sendGridDKIM() string {
	if len(a.DKIM) == 0 {
		return "none"
	}
	each := make([]string, len(a.DKIM))
	for i, d := range a.DKIM {
		each[i] = "@" + d.Domain + " : " + d.Result
	}
	return "{" + strings.Join(each, ", ") + "}"
}

// verdict is a result as Amazon SES gives it: GRAY is anything but yes and no.
func verdict(result string) string {
	switch result {
	case "pass":
		return "PASS"
	case "fail", "permerror":
		return "FAIL"
	case "temperror":
		return "PROCESSING_FAILED"
	}
	return "GRAY"
}

// title is a result as Mailgun gives it: "Pass".
func title(result string) string {
	switch result {
	case "softfail":
		return "SoftFail"
	case "temperror":
		return "TempError"
	case "permerror":
		return "PermError"
	case "":
		return ""
	}
	return strings.ToUpper(result[:1]) + result[1:]
}
