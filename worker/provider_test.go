package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"stepup/ciba"
	"stepup/ciba/cibatest"
	"stepup/worker"
)

// An answer that waits for a key is judged as soon as the key is there, whoever fetched it:
// it does not wait until it may fetch once more.
func TestAnswerInHandIsJudgedByTheKeysInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := opAndClient(t, cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Approve}}}, 0)
		provider := worker.CIBA{Client: client}
		q := worker.Question{LoginHint: hint(1)}
		created := time.Now()
		asked, err := provider.Ask(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		asked.Created = created
		if asked.Raw, err = client.Token(t.Context(), asked.ID); err != nil {
			t.Fatal(err)
		}
		asked.RawAt = time.Now()
		if err := client.RefreshKeys(t.Context(), asked.RawAt); err == nil {
			t.Fatal("the keys could be fetched again, so this shows nothing")
		}
		if who, err := provider.Answer(t.Context(), asked); err != nil || !who.Bound {
			t.Errorf("judged as %v", err)
		}
		asked.Raw = "x" + asked.Raw[1:]
		if _, err := provider.Answer(t.Context(), asked); err == nil {
			t.Error("a spoiled answer is believed")
		} else if _, ok := err.(*ciba.Untrusted); !ok {
			t.Errorf("a spoiled answer is %T", err)
		}
	})
}
