import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import com.google.protobuf.DescriptorProtos.FileDescriptorSet;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.util.JsonFormat;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.avro.Conversions;
import org.apache.avro.Schema;
import org.apache.avro.data.TimeConversions;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.Serializer;

/**
 * Writes the records of the corpus by Java's serializers. `make_corpus.py` runs it, with their jars on the class path.
 *
 * <p>Takes a JSON file with the records to write, and prints a line for each: its bytes in hexadecimal digits, or `!` and
 * what the serializer said. Values are made by Java's own classes (Instant, BigDecimal, Protobuf's JSON), and become
 * bytes by the serializers alone.
 */
public class WriteRecords {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  // Small, so that a list of some items has several blocks, each with its size in front.
  private static final int BLOCK_BYTES = 64;

  public static void main(String[] arguments) throws Exception {
    PrintStream answers = System.out;
    System.setOut(System.err); // what the libraries log must not stand between the answers
    for (JsonNode each : MAPPER.readTree(new File(arguments[0]))) {
      try {
        answers.println(HexFormat.of().formatHex(write(each)));
      } catch (Exception | LinkageError | StackOverflowError error) {
        Throwable cause = error.getCause() == null ? error : error.getCause();
        answers.println("!" + (error + " <- " + cause).replace('\n', ' '));
      }
    }
    answers.flush();
    System.exit(0); // clients of a registry may have left threads
  }

  private static byte[] write(JsonNode each) throws Exception {
    String serializer = each.get("serializer").asText();
    Object value = switch (each.get("format").asText()) {
      case "avro" -> toAvro(parse(each), each.get("value"));
      case "protobuf" -> toMessage(each);
      default -> each.get("value");
    };
    if (serializer.startsWith("plain")) {
      return encode(parse(each), value, serializer.equals("plain blocks"));
    }
    if (value instanceof GenericData.Record && serializer.startsWith("io.apicurio")) {
      value = withoutConversions(parse(each), value);
    }
    @SuppressWarnings("unchecked")
    Serializer<Object> found =
        (Serializer<Object>) Class.forName(serializer).getDeclaredConstructor().newInstance();
    found.configure(MAPPER.convertValue(each.get("configuration"), Map.class), false);
    try {
      return found.serialize(each.get("topic").asText(), value);
    } finally {
      found.close();
    }
  }

  private static Schema parse(JsonNode each) {
    Schema.Parser parser = new Schema.Parser();
    each.get("references").forEach(text -> parser.parse(text.asText()));
    return parser.parse(each.get("schema").asText());
  }

  /** The value by Avro's own encoder, without a serializer and its frame. */
  private static byte[] encode(Schema schema, Object value, boolean inBlocks) throws Exception {
    GenericData data = new GenericData();
    List.of(
            new Conversions.DecimalConversion(), new Conversions.UUIDConversion(),
            new TimeConversions.DateConversion(), new TimeConversions.TimeMillisConversion(),
            new TimeConversions.TimeMicrosConversion(), new TimeConversions.TimestampMillisConversion(),
            new TimeConversions.TimestampMicrosConversion(), new TimeConversions.LocalTimestampMillisConversion(),
            new TimeConversions.LocalTimestampMicrosConversion())
        .forEach(data::addLogicalTypeConversion);
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    EncoderFactory factory = new EncoderFactory().configureBlockSize(BLOCK_BYTES);
    BinaryEncoder encoder =
        inBlocks ? factory.blockingBinaryEncoder(out, null) : factory.binaryEncoder(out, null);
    new GenericDatumWriter<Object>(schema, data).write(value, encoder);
    encoder.flush();
    return out.toByteArray();
  }

  /** The same record with the values of logical types as they are stored: Apicurio's serializer converts none. */
  private static Object withoutConversions(Schema schema, Object value) throws Exception {
    BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(encode(schema, value, false), null);
    return new GenericDatumReader<Object>(schema).read(null, decoder);
  }

  /** Avro's value of one that is given as JSON: a text for a logical type, hexadecimal digits for bytes. */
  private static Object toAvro(Schema of, JsonNode value) {
    String logical = of.getLogicalType() == null ? "" : of.getLogicalType().getName();
    if (value.isTextual() && !logical.isEmpty()) {
      Object meant = toLogical(logical, value.asText());
      if (meant != null) {
        return meant;
      }
    }
    switch (of.getType()) {
      case UNION:
        return value.isNull() ? null : toAvro(of.getTypes().get(value.get(0).asInt()), value.get(1));
      case RECORD:
        GenericData.Record record = new GenericData.Record(of);
        of.getFields().forEach(field -> record.put(field.pos(), toAvro(field.schema(), value.get(field.name()))));
        return record;
      case ARRAY:
        List<Object> list = new ArrayList<>();
        value.forEach(item -> list.add(toAvro(of.getElementType(), item)));
        return new GenericData.Array<>(of, list);
      case MAP:
        Map<String, Object> map = new LinkedHashMap<>();
        value.fields().forEachRemaining(entry -> map.put(entry.getKey(), toAvro(of.getValueType(), entry.getValue())));
        return map;
      case ENUM:
        return new GenericData.EnumSymbol(of, value.asText());
      case FIXED:
        return new GenericData.Fixed(of, HexFormat.of().parseHex(value.asText()));
      case BYTES:
        return ByteBuffer.wrap(HexFormat.of().parseHex(value.asText()));
      case STRING:
        return value.asText();
      case INT:
        return value.intValue();
      case LONG:
        return value.longValue();
      case FLOAT:
        return Float.valueOf(value.asText());
      case DOUBLE:
        return Double.valueOf(value.asText());
      case BOOLEAN:
        return value.booleanValue();
      default:
        return null;
    }
  }

  private static Object toLogical(String logical, String text) {
    return switch (logical) {
      case "decimal" -> new BigDecimal(text);
      case "uuid" -> UUID.fromString(text);
      case "date" -> LocalDate.parse(text);
      case "time-millis", "time-micros" -> LocalTime.parse(text);
      case "timestamp-millis", "timestamp-micros" -> Instant.parse(text);
      case "local-timestamp-millis", "local-timestamp-micros" -> LocalDateTime.parse(text);
      default -> null;
    };
  }

  /** The message that Protobuf's own JSON says, of a type that protoc has compiled. */
  private static DynamicMessage toMessage(JsonNode each) throws Exception {
    Map<String, FileDescriptor> files = new HashMap<>();
    byte[] compiled = Base64.getDecoder().decode(each.get("descriptors").asText());
    JsonFormat.TypeRegistry.Builder types = JsonFormat.TypeRegistry.newBuilder();
    for (FileDescriptorProto file : FileDescriptorSet.parseFrom(compiled).getFileList()) {
      FileDescriptor[] imports = file.getDependencyList().stream().map(files::get).toArray(FileDescriptor[]::new);
      FileDescriptor found = FileDescriptor.buildFrom(file, imports);
      files.put(file.getName(), found);
      types.add(found.getMessageTypes());
    }
    FileDescriptor file = files.get(each.get("file").asText());
    Descriptor type = null;
    for (String name : each.get("message").asText().split("\\.")) {
      type = type == null ? file.findMessageTypeByName(name) : type.findNestedTypeByName(name);
    }
    DynamicMessage.Builder builder = DynamicMessage.newBuilder(type);
    JsonFormat.parser().usingTypeRegistry(types.build()).merge(each.get("value").toString(), builder);
    return builder.build();
  }
}
