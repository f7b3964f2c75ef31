package webhook

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter is the longest wait a receiver can ask for: after 24 h there is no further attempt.
const maxRetryAfter = 24 * time.Hour

// gaps are the waits after the first failed attempts; the last one stays. From firstJitter on
// they are spread, so that the events that failed in one outage do not all return together.
var gaps = [...]time.Duration{
	1 * time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second,
	1 * time.Minute, 1 * time.Minute, 1 * time.Minute, 1 * time.Minute,
	2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
	time.Hour,
}

const firstJitter = time.Minute

// Gap is the wait from the end of the n-th failed attempt (1, 2, …) to the next one:
//
//	1 to 6    1, 2, 5, 10, 20, 30 s, exactly
//	7 to 10   1 min
//	11 to 15  2, 5, 10, 20, 30 min
//	16 …      1 h
//
// From the seventh on, jitter adds up to a fifth: base × (1 + rnd/5), never less than the base
// and never more than an hour. rnd is a random number in [0, 1). A longer RetryAfter of the
// attempt goes before.
func Gap(attempts int, rnd float64) time.Duration {
	base := gaps[min(max(attempts, 1), len(gaps))-1]
	if base >= firstJitter && rnd > 0 {
		base += time.Duration(min(rnd, 1) * float64(base/5))
	}
	return min(base, time.Hour)
}

// retryAfter reads Retry-After (RFC 9110 §10.2.3): seconds or a date. What cannot be read, or
// has passed, is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil { // more digits than fit
			return maxRetryAfter
		}
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
