// Load sends prepared HTTP/1.1 requests over keep-alive connections, one at a time on each, and
// prints what it measured as JSON. One thread waits on all sockets, so that it costs less than any
// server that it measures.
//
// The file of requests holds each as its length (4 bytes, little endian) and its bytes. They are
// sent round and round in their order; how often an answer held the marker is counted, and how
// often it should have been can be counted beforehand. With -serve it is itself the server, one
// that does nothing else.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	answerBytes = 1 << 16
	fewAnswers  = 1 << 20
)

var (
	headEnd   = []byte("\r\n\r\n")
	length    = []byte("content-length:")
	chunked   = []byte("transfer-encoding: chunked")
	lastChunk = []byte("0\r\n\r\n")
)

type connection struct {
	socket  int
	started time.Time
	buffer  []byte
	filled  int
	request int
}

type report struct {
	Seconds   float64 `json:"seconds"`
	Answers   int     `json:"answers"`
	Marked    int     `json:"marked"`
	Refused   int     `json:"refused"`
	Last      int     `json:"last"`
	PerSecond float64 `json:"per_second"`
	Mean      float64 `json:"mean_us"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	P999      float64 `json:"p999_us"`
	Most      float64 `json:"max_us"`
	Busy      float64 `json:"busy"`
}

func main() {
	address := flag.String("address", "127.0.0.1:8054", "server")
	file := flag.String("requests", "", "file of requests")
	connections := flag.Int("connections", 16, "connections")
	seconds := flag.Float64("seconds", 5, "how long")
	marker := flag.String("marker", "ALLOW", "what is counted in answers")
	first := flag.Int("first", 0, "number of the request to start with")
	serving := flag.Bool("serve", false, "be the server")
	flag.Parse()
	runtime.LockOSThread()
	if *serving {
		check(serve(*address))
	}
	requests, err := read(*file)
	check(err)
	made, err := run(*address, requests, *connections, *first, *seconds, []byte(*marker))
	check(err)
	check(json.NewEncoder(os.Stdout).Encode(made))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func read(file string) ([][]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var requests [][]byte
	for len(content) >= 4 {
		size := binary.LittleEndian.Uint32(content)
		requests = append(requests, content[4:4+size])
		content = content[4+size:]
	}
	if len(requests) == 0 {
		return nil, fmt.Errorf("%s holds no request", file)
	}
	return requests, nil
}

func run(address string, requests [][]byte, connections, first int, seconds float64, marker []byte) (report, error) {
	poll, err := unix.EpollCreate1(0)
	if err != nil {
		return report{}, err
	}
	all := make([]connection, connections)
	for number := range all {
		if err := open(&all[number], address); err != nil {
			return report{}, err
		}
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(number)}
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, all[number].socket, &event); err != nil {
			return report{}, err
		}
	}
	next, made := first%len(requests), report{}
	latencies := make([]time.Duration, 0, fewAnswers)
	start, spent := time.Now(), processor()
	end := start.Add(time.Duration(seconds * float64(time.Second)))
	for number := range all {
		if err := send(&all[number], requests[next]); err != nil {
			return made, err
		}
		next = (next + 1) % len(requests)
	}
	events := make([]unix.EpollEvent, connections)
	waiting, now := connections, start
	for waiting > 0 {
		ready, err := unix.EpollWait(poll, events, 10_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return made, err
		}
		if ready == 0 {
			return made, fmt.Errorf("no answer for 10 s")
		}
		for _, event := range events[:ready] {
			one := &all[event.Fd]
			count, err := unix.Read(one.socket, one.buffer[one.filled:])
			if err != nil {
				return made, err
			}
			if count == 0 {
				return made, fmt.Errorf("the server closed a connection")
			}
			one.filled += count
			if !complete(one.buffer[:one.filled]) {
				continue
			}
			now = time.Now()
			latencies = append(latencies, now.Sub(one.started))
			tally(&made, one.buffer[:one.filled], marker)
			one.filled = 0
			if now.After(end) {
				waiting--
				continue
			}
			if err := send(one, requests[next]); err != nil {
				return made, err
			}
			next = (next + 1) % len(requests)
		}
	}
	made.Last = next
	made.Seconds = now.Sub(start).Seconds()
	made.Busy = (processor() - spent) / made.Seconds
	summarize(&made, latencies)
	return made, nil
}

// processor is the seconds of processor time that this process has had.
func processor() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func open(one *connection, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	ip := net.ParseIP(host).To4()
	if ip == nil {
		return fmt.Errorf("%s is not an IPv4 address", host)
	}
	one.buffer = make([]byte, answerBytes)
	if one.socket, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err != nil {
		return err
	}
	if err = unix.SetsockoptInt(one.socket, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	return unix.Connect(one.socket, &unix.SockaddrInet4{Port: number, Addr: [4]byte(ip)})
}

func send(one *connection, request []byte) error {
	one.started = time.Now()
	count, err := unix.Write(one.socket, request)
	if err == nil && count != len(request) {
		err = fmt.Errorf("a request was sent in part")
	}
	return err
}

// complete says whether a whole answer has come: as long as its head says, or to its last chunk.
func complete(answer []byte) bool {
	head := bytes.Index(answer, headEnd)
	if head < 0 {
		return false
	}
	if at := find(answer[:head], length); at >= 0 {
		size := 0
		for _, digit := range bytes.TrimLeft(answer[at+len(length):head+1], " ") {
			if digit < '0' || digit > '9' {
				break
			}
			size = size*10 + int(digit-'0')
		}
		return len(answer) >= head+len(headEnd)+size
	}
	return find(answer[:head], chunked) >= 0 && bytes.HasSuffix(answer, lastChunk)
}

// find looks for a line of a head in whatever case; what is looked for is in lower case.
func find(head, wanted []byte) int {
	for at := 0; at+len(wanted) <= len(head); {
		if bytes.EqualFold(head[at:at+len(wanted)], wanted) {
			return at
		}
		line := bytes.IndexByte(head[at:], '\n')
		if line < 0 {
			return -1
		}
		at += line + 1
	}
	return -1
}

func tally(made *report, answer, marker []byte) {
	made.Answers++
	if !bytes.HasPrefix(answer[9:], []byte("200")) {
		made.Refused++
	}
	if bytes.Contains(answer, marker) {
		made.Marked++
	}
}

func summarize(made *report, latencies []time.Duration) {
	var sum time.Duration
	for _, latency := range latencies {
		sum += latency
	}
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	at := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))]) / 1e3
	}
	made.PerSecond = float64(made.Answers) / made.Seconds
	made.Mean = float64(sum) / float64(len(latencies)) / 1e3
	made.P50, made.P99, made.P999, made.Most = at(0.5), at(0.99), at(0.999), at(1)
}
