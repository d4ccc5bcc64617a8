// The official Go client's side of a scenario; speaks as bench/worker.py does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

type job struct {
	Kind      string
	Callers   int
	Batch     int
	Namesrv   string
	Topic     string
	Seconds   float64
	Messages  int64
	BodyBytes int `json:"body_bytes"`
}

type result map[string]any

func main() {
	var j job
	must(json.Unmarshal([]byte(os.Args[1]), &j))
	rlog.SetLogLevel("error")
	round := j.consume
	if j.Kind != "consume" {
		p, err := rocketmq.NewProducer(
			producer.WithNsResolver(primitive.NewPassthroughResolver([]string{j.Namesrv})),
			producer.WithGroupName("bench_go"))
		must(err)
		must(p.Start())
		round = func() result { return j.send(p) }
		if j.Kind == "oneway" {
			round = func() result { return j.oneway(p) }
		}
	}
	fmt.Println("ready")
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		text, err := json.Marshal(round())
		must(err)
		fmt.Println(string(text))
	}
}

func (j *job) message() *primitive.Message {
	return primitive.NewMessage(j.Topic, make([]byte, j.BodyBytes))
}

func (j *job) send(p rocketmq.Producer) result {
	c := start()
	end := c.begin.Add(time.Duration(j.Seconds * 1e9))
	var done atomic.Int64
	var latencies []float64
	var callers sync.WaitGroup
	for caller := 0; caller < j.Callers; caller++ {
		callers.Add(1)
		go func(timed bool) {
			defer callers.Done()
			for begin := time.Now(); begin.Before(end); {
				_, err := p.SendSync(context.Background(), j.message())
				must(err)
				now := time.Now()
				if timed {
					latencies = append(latencies, now.Sub(begin).Seconds()*1e3)
				}
				done.Add(1)
				begin = now
			}
		}(caller == 0)
	}
	callers.Wait()
	return c.result(done.Load(), latencies)
}

// The end is when the last message was handed over: this client has no question to ask on the same connection.
func (j *job) oneway(p rocketmq.Producer) result {
	c := start()
	for sent := int64(0); sent < j.Messages; sent++ {
		must(p.SendOneWay(context.Background(), j.message()))
	}
	return c.result(j.Messages, nil)
}

func (j *job) consume() result {
	pc, err := rocketmq.NewPushConsumer(
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{j.Namesrv})),
		consumer.WithGroupName(fmt.Sprintf("bench_go_%d", time.Now().UnixNano())),
		consumer.WithConsumeMessageBatchMaxSize(j.Batch),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	must(err)
	var got atomic.Int64
	var c *clock
	done := make(chan result, 1)
	listener := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		count := int64(len(messages))
		now := got.Add(count)
		if now == count {
			c = start()
		}
		if now >= j.Messages && now-count < j.Messages {
			done <- c.result(j.Messages, nil)
		}
		return consumer.ConsumeSuccess, nil
	}
	must(pc.Subscribe(j.Topic, consumer.MessageSelector{}, listener))
	must(pc.Start())
	r := <-done
	must(pc.Shutdown())
	return r
}

type clock struct {
	begin     time.Time
	processor float64
}

func start() *clock { return &clock{time.Now(), processorSeconds()} }

func (c *clock) result(messages int64, latencies []float64) result {
	r := result{
		"messages": messages,
		"seconds":  time.Since(c.begin).Seconds(),
		"cpu_us":   (processorSeconds() - c.processor) / float64(messages) * 1e6,
	}
	if len(latencies) > 0 {
		sort.Float64s(latencies)
		r["p50_ms"] = latencies[len(latencies)/2]
		r["p99_ms"] = latencies[len(latencies)*99/100]
	}
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
			r["rss_mb"] = kib / 1024
		}
	}
	return r
}

func processorSeconds() float64 {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
