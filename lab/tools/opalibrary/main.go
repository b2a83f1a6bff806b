// Opa-library decides requests with OPA inside this process, through a prepared query, appends a
// JSON line for each to a file by one write(2), and prints what it measured as JSON.
//
// The requests are JSON lines of {"source": ..., "destination": ..., "port": ...}. What is timed is
// what a program in Go does for a request that it has parsed: evaluating and appending.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

type request struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Port        string `json:"port"`
}

type record struct {
	Time   time.Time `json:"time"`
	Input  request   `json:"input"`
	Result any       `json:"result"`
}

type report struct {
	LoadSeconds float64  `json:"load_seconds"`
	P50         float64  `json:"p50_us"`
	P99         float64  `json:"p99_us"`
	P999        float64  `json:"p999_us"`
	Answers     []string `json:"answers"`
}

func main() {
	policy := flag.String("policy", "", "folder of Rego and data")
	query := flag.String("query", "data.zt.rule", "what is asked")
	file := flag.String("requests", "", "file of requests")
	log := flag.String("log", "", "file of records")
	answers := flag.Bool("answers", false, "print the answers too")
	flag.Parse()
	made, err := run(*policy, *query, *file, *log, *answers)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(made)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "opa-library:", err)
		os.Exit(1)
	}
}

func run(policy, query, file, log string, answers bool) (report, error) {
	made, background := report{}, context.Background()
	requests, err := read(file)
	if err != nil {
		return made, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return made, err
	}
	start := time.Now()
	prepared, err := rego.New(rego.Query(query), rego.Load([]string{policy}, nil)).PrepareForEval(background)
	if err != nil {
		return made, err
	}
	made.LoadSeconds = time.Since(start).Seconds()
	latencies := make([]time.Duration, 0, len(requests))
	inputs := make([]ast.Value, 0, len(requests))
	for _, one := range requests {
		inputs = append(inputs, parsed(one))
	}
	for number, one := range requests {
		began := time.Now()
		answer, err := decide(background, prepared, one, inputs[number], out)
		if err != nil {
			return made, err
		}
		latencies = append(latencies, time.Since(began))
		if answers {
			made.Answers = append(made.Answers, fmt.Sprint(answer))
		}
	}
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	at := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))]) / 1e3
	}
	made.P50, made.P99, made.P999 = at(0.5), at(0.99), at(0.999)
	return made, nil
}

func parsed(one request) ast.Value {
	return ast.NewObject(
		ast.Item(ast.StringTerm("source"), ast.StringTerm(one.Source)),
		ast.Item(ast.StringTerm("destination"), ast.StringTerm(one.Destination)),
		ast.Item(ast.StringTerm("port"), ast.StringTerm(one.Port)),
	)
}

func decide(background context.Context, prepared rego.PreparedEvalQuery, one request, input ast.Value, out *os.File) (any, error) {
	found, err := prepared.Eval(background, rego.EvalParsedInput(input))
	if err != nil {
		return nil, err
	}
	result := found[0].Expressions[0].Value
	line, err := json.Marshal(record{time.Now(), one, result})
	if err != nil {
		return nil, err
	}
	_, err = out.Write(append(line, '\n'))
	return result, err
}

func read(file string) ([]request, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	var requests []request
	for lines := bufio.NewScanner(opened); lines.Scan(); {
		var one request
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return nil, err
		}
		requests = append(requests, one)
	}
	return requests, nil
}
