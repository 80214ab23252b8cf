// Command check reads tokens on stdin, one a line, with the Go library that nats-server uses, and
// writes one JSON line for each: its payload and every issue, since the server takes a warning for
// a refusal.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"

	"github.com/nats-io/jwt/v2"
)

type verdict struct {
	Issues []string   `json:"issues"`
	Claims jwt.Claims `json:"claims,omitempty"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		answer := verdict{Issues: []string{}}
		claims, err := jwt.Decode(lines.Text())
		if err != nil {
			answer.Issues = append(answer.Issues, err.Error())
		} else {
			answer.Claims = claims
			results := jwt.CreateValidationResults()
			claims.Validate(results)
			for _, issue := range results.Issues {
				answer.Issues = append(answer.Issues, issue.Description)
			}
		}
		if err := out.Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
