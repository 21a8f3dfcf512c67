// Runs code in Sandpool with grpc-go and generated stubs: streams, outcomes, cancelling, refusals.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "example.com/sandpool/gen/sandpool/v1"
)

// converse sends a line, waits for the answer, and sends the next one: the program runs meanwhile.
func converse(ctx context.Context, api pb.ExecutionServiceClient) error {
	spec := python("import sys\nfor line in sys.stdin:\n    print(line.strip().upper())", nil)
	spec.StdinOpen = true
	call, err := start(ctx, api, spec)
	if err != nil {
		return err
	}
	stdout, program := io.Pipe()
	go func() {
		lines := bufio.NewScanner(stdout)
		for _, line := range []string{"hello", "world"} {
			fmt.Println(">", line)
			call.Send(&pb.ExecuteRequest{Event: &pb.ExecuteRequest_Stdin{Stdin: []byte(line + "\n")}})
			lines.Scan()
			fmt.Println("<", lines.Text())
		}
		call.Send(&pb.ExecuteRequest{Event: &pb.ExecuteRequest_CloseStdin{CloseStdin: &pb.CloseStdin{}}})
		io.Copy(os.Stdout, stdout)
	}()
	defer program.Close()
	for {
		response, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		switch event := response.Event.(type) {
		case *pb.ExecuteResponse_Stdout:
			program.Write(event.Stdout)
		case *pb.ExecuteResponse_Stderr:
			os.Stderr.Write(event.Stderr)
		case *pb.ExecuteResponse_Finished:
			fmt.Println(describe(event.Finished))
		}
	}
}

// cancel gives up a program that runs, and returns what its call ends with.
func cancel(ctx context.Context, api pb.ExecutionServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	limits := &pb.Limits{Timeout: durationpb.New(10 * time.Minute)}
	call, err := start(ctx, api, python("import time\nprint('working')\ntime.sleep(600)", limits))
	for err == nil {
		var response *pb.ExecuteResponse
		response, err = call.Recv()
		if output := response.GetStdout(); output != nil {
			fmt.Printf("< %s", output)
			cancel()
		}
	}
	return err
}

func main() {
	log.SetFlags(0)
	address := cmp.Or(os.Getenv("SANDPOOL_ADDRESS"), "127.0.0.1:50051")
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer channel.Close()
	api := pb.NewExecutionServiceClient(channel)
	// This deadline is the calls' own; limits.timeout is the program's.
	ctx, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()

	fmt.Println("== a conversation")
	if err := converse(ctx, api); err != nil {
		log.Fatal(explain(err))
	}
	fmt.Println("== outcomes")
	for _, spec := range []*pb.ExecutionSpec{
		python("raise SystemExit(3)", nil),
		python("import os\nos.kill(os.getpid(), 9)", nil),
		python("while True: pass", &pb.Limits{Timeout: durationpb.New(time.Second)}),
		python("import time\nx = bytearray(200 << 20)\ntime.sleep(60)", &pb.Limits{MemoryBytes: 100 << 20}),
	} {
		ended, err := api.Run(ctx, &pb.RunRequest{Spec: spec})
		if err != nil {
			log.Fatal(explain(err))
		}
		fmt.Println(describe(ended.Finished))
	}
	fmt.Println("== a cancelled call")
	fmt.Println(explain(cancel(ctx, api)))
	fmt.Println("== a refused call")
	wrong := python("print(1)", nil)
	wrong.WorkingDirectory, wrong.Env = "/etc", map[string]string{"A=B": ""}
	_, err = api.Run(ctx, &pb.RunRequest{Spec: wrong})
	fmt.Println(explain(err))
}
