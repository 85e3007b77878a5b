"""Calls methods of a CRI service.

cri.py SOCKET reads lines `["Method", {request}]` and answers each with a line `{"response": ...}` or `{"error": ...}`.
Messages are those of cri.proto in protobuf's JSON form.
"""
import json
import sys

import grpc
from google.protobuf import json_format, message_factory

import cri_pb2

SERVICE = cri_pb2.DESCRIPTOR.services_by_name["RuntimeService"]
messages = message_factory.MessageFactory()
channel = grpc.insecure_channel("unix://" + sys.argv[1])

for line in sys.stdin:
    name, request = json.loads(line)
    method = SERVICE.methods_by_name[name]
    call = channel.unary_unary(
        f"/{SERVICE.full_name}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages.GetPrototype(method.output_type).FromString,
    )
    try:
        message = json_format.ParseDict(request, messages.GetPrototype(method.input_type)())
        response = call(message, timeout=60)
        answer = {"response": json_format.MessageToDict(
            response, preserving_proto_field_name=True, including_default_value_fields=True)}
    except (grpc.RpcError, json_format.ParseError) as error:
        answer = {"error": error.details() if isinstance(error, grpc.RpcError) else str(error)}
    print(json.dumps(answer), flush=True)
