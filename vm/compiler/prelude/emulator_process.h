// A process of its own for the address sanitizer: `parameters KERNEL` prints the letters of its
// parameters, `run JOB ANSWER` reads a launch and its arguments and writes what came of it.
#pragma once

namespace {
unsigned long long read_number(FILE* file) {
  unsigned long long value = 0;
  if (fread(&value, 8, 1, file) != 1) exit(2);
  return value;
}
void read_bytes(FILE* file, void* target, size_t bytes) {
  if (bytes && fread(target, bytes, 1, file) != 1) exit(2);
}
}  // namespace

int main(int count, char** words) {
  if (count == 3 && !strcmp(words[1], "parameters")) {
    const char* letters = vm_emulator_parameters_of(words[2]);
    if (!letters) return 2;
    fputs(letters, stdout);
    return 0;
  }
  if (count != 4) return 2;
  FILE* job = fopen(words[2], "rb");
  if (!job) return 2;
  vm_emulator_launch launch{};
  for (int axis = 0; axis < 3; axis++) launch.grid[axis] = (int)read_number(job);
  launch.threads = (int)read_number(job);
  launch.shared_bytes = (unsigned)read_number(job);
  launch.warp_width = (int)read_number(job);
  launch.order = (int)read_number(job);
  launch.seed = read_number(job);
  const size_t name_length = read_number(job), argument_count = read_number(job);
  std::string name(name_length, ' ');
  read_bytes(job, &name[0], name_length);
  launch.kernel = name.c_str();
  std::vector<vm_emulator_buffer> buffers;
  std::vector<unsigned long long> values(argument_count);
  std::vector<void*> pointers(argument_count);
  for (size_t i = 0; i < argument_count; i++) {
    const bool array = read_number(job);
    const size_t bytes = read_number(job);
    const bool writable = read_number(job);
    pointers[i] = &values[i];
    if (!array) {
      read_bytes(job, &values[i], bytes);
      continue;
    }
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes ? bytes : 1)) return 2;
    read_bytes(job, memory, bytes);
    values[i] = (unsigned long long)memory;
    buffers.push_back({(unsigned char*)memory, (unsigned char*)memory + bytes, writable});
  }
  fclose(job);
  launch.arguments = pointers.data();
  launch.buffers = buffers.data();
  launch.buffer_count = (int)buffers.size();
  static vm_emulator_result result;
  const char* printed = "";
  vm_emulator_run(&launch, &result, &printed);
  FILE* answer = fopen(words[3], "wb");
  if (!answer) return 2;
  const unsigned long long length = strlen(printed);
  fwrite(&result, sizeof(result), 1, answer);
  fwrite(&length, 8, 1, answer);
  fwrite(printed, 1, length, answer);
  for (const vm_emulator_buffer& buffer : buffers)
    fwrite(buffer.begin, 1, buffer.end - buffer.begin, answer);
  return fclose(answer) ? 2 : 0;
}
